"""The jobs ``info``, ``version`` and ``jobs``."""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyker
from pyker.api.gotime import format_time
from pyker.container.store import ContainerStore
from pyker.daemon import host
from pyker.daemon.events import EventBus
from pyker.daemon.options import Options
from pyker.engine.engine import Engine
from pyker.engine.job import JobContext, JobRecord
from pyker.errors import NotSupported
from pyker.graph.graph import Graph
from pyker.jobs.system import Info, ListJobs, SystemInfo, Version, VersionInfo
from pyker.libcontainer import apparmor
from pyker.libcontainer.cgroups.layout import layout
from pyker.libcontainer.cgroups.support import Support, supported
from pyker.server.listener import is_loopback

_INDEX = "https://index.docker.io/v1/"
_LOG_DRIVERS = ["json-file", "none"]
_NETWORK_DRIVERS = ["bridge", "host", "null"]


@dataclass(frozen=True, slots=True)
class Platform:
    """What ``info`` says beyond the machine: the drivers in use, and warnings found at start-up."""

    engine_id: str
    execdriver: str
    warnings: tuple[str, ...] = ()


class SystemHandlers:
    """Describes the engine."""

    def __init__(
        self,
        engine: Engine,
        store: ContainerStore,
        graph: Graph,
        bus: EventBus,
        options: Options,
        about: Platform,
        network_drivers: Callable[[], list[str]] = lambda: _NETWORK_DRIVERS,
    ) -> None:
        self._engine = engine
        self._store = store
        self._graph = graph
        self._bus = bus
        self._options = options
        self._about = about
        self._network_drivers = network_drivers

    def version(self, job: Version, ctx: JobContext) -> VersionInfo:
        """What is running."""
        return VersionInfo(
            version=pyker.__version__,
            git_commit=build_commit(),
            build_time=build_time(),
            kernel_version=os.uname().release,
            components=((self._about.execdriver, pyker.__version__, {"GitCommit": build_commit()}),),
        )

    def jobs(self, job: ListJobs, ctx: JobContext) -> tuple[JobRecord, ...]:
        """Read the journal."""
        return self._engine.jobs(limit=job.limit, tree=job.tree, running=job.running)

    def info(self, job: Info, ctx: JobContext) -> SystemInfo:
        """Counts, drivers, limits, machine. Source: Docker API v1.45 GET /info."""
        options = self._options
        statuses = [container.state.status for container in self._store.all()]
        running = sum(status in ("running", "restarting") for status in statuses)
        paused = statuses.count("paused")
        fields: dict[str, object] = {
            "ID": self._about.engine_id,
            "Containers": len(statuses),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(statuses) - running - paused,
            "Images": len(self._graph.images.ids()),
            "Driver": self._graph.driver.name,
            "DriverStatus": [list(pair) for pair in self._graph.driver.status()],
            "Plugins": {
                "Volume": ["local"],
                "Network": sorted(self._network_drivers()),
                "Authorization": None,
                "Log": _LOG_DRIVERS,
            },
            "IPv4Forwarding": host.ipv4_forwarding(),
            "BridgeNfIptables": _flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
            "BridgeNfIp6tables": _flag("/proc/sys/net/bridge/bridge-nf-call-ip6tables"),
            "Debug": options.debug,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": threading.active_count(),
            "SystemTime": format_time(time.time_ns()),
            "LoggingDriver": options.log_driver,
            "NEventsListener": self._bus.listeners(),
            "KernelVersion": os.uname().release,
            "OperatingSystem": host.operating_system(),
            "OSVersion": host.os_version(),
            "OSType": "linux",
            "Architecture": os.uname().machine,
            "IndexServerAddress": _INDEX,
            "RegistryConfig": self._registry_config(),
            "NCPU": host.processors(),
            "MemTotal": host.memory_bytes(),
            "GenericResources": None,
            "DockerRootDir": options.data_root,
            "HttpProxy": os.environ.get("HTTP_PROXY", os.environ.get("http_proxy", "")),
            "HttpsProxy": os.environ.get("HTTPS_PROXY", os.environ.get("https_proxy", "")),
            "NoProxy": os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")),
            "Name": socket.gethostname(),
            "Labels": list(options.label),
            "ExperimentalBuild": options.experimental,
            "ServerVersion": pyker.__version__,
            "Runtimes": {self._about.execdriver: {"path": self._about.execdriver}},
            "DefaultRuntime": self._about.execdriver,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "pyker-init",
            "ContainerdCommit": {"ID": "", "Expected": ""},
            "RuncCommit": {"ID": pyker.__version__, "Expected": pyker.__version__},
            "InitCommit": {"ID": pyker.__version__, "Expected": pyker.__version__},
            "SecurityOptions": _security_options(remapped=bool(options.userns_remap)),
            "ProductLicense": "",
            "DefaultAddressPools": [],
            "CDISpecDirs": [],
            "FirewallBackend": {"Driver": "nftables" if options.iptables else "none"},
        }
        limits, warnings = cgroup_limits()
        fields.update(limits)
        fields["Warnings"] = [*open_api_warnings(options), *self._about.warnings, *warnings]
        return SystemInfo(fields=fields)

    def _registry_config(self) -> dict[str, object]:
        index: dict[str, object] = {
            "docker.io": {
                "Name": "docker.io",
                "Mirrors": list(self._options.registry_mirror),
                "Secure": True,
                "Official": True,
            }
        }
        cidrs = ["127.0.0.0/8", "::1/128"]
        for name in self._options.insecure_registry:
            if "/" in name:
                cidrs.append(name)
            else:
                index[name] = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
        return {
            "AllowNondistributableArtifactsCIDRs": [],
            "AllowNondistributableArtifactsHostnames": [],
            "InsecureRegistryCIDRs": cidrs,
            "IndexConfigs": index,
            "Mirrors": list(self._options.registry_mirror),
        }


def cgroup_limits(can: Support | None = None) -> tuple[dict[str, object], list[str]]:
    """Which limits this kernel can set, and a warning for each that it cannot. Source: Docker API v1.45 GET /info."""
    can = can or supported()
    fields: dict[str, object] = {
        "CgroupDriver": "cgroupfs" if can.version else "none",
        "CgroupVersion": str(can.version or 1),
        "MemoryLimit": can.memory,
        "SwapLimit": can.swap,
        "KernelMemory": can.kernel_memory,
        "KernelMemoryTCP": can.kernel_memory_tcp,
        "CpuCfsPeriod": can.cpu_cfs,
        "CpuCfsQuota": can.cpu_cfs,
        "CPUShares": can.cpu_shares,
        "CPUSet": can.cpuset,
        "PidsLimit": can.pids,
        "OomKillDisable": can.oom_kill_disable,
    }
    missing = [
        (can.memory, "memory limit"),
        (can.swap or not can.memory, "swap limit"),
        (can.cpu_shares, "cpu shares"),
        (can.cpu_cfs, "cpu cfs quota"),
        (can.cpu_cfs, "cpu cfs period"),
        (can.cpuset, "cpuset"),
        (can.pids, "pids limit"),
    ]
    return fields, [f"WARNING: No {what} support" for present, what in missing if not present]


def open_api_warnings(options: Options) -> list[str]:
    """A warning for each address from which others may command this machine without a certificate."""
    warnings = []
    for host_text in options.host:
        scheme, _, rest = host_text.partition("://")
        name = urlsplit(host_text).hostname or ""
        if scheme != "tcp" or options.tlsverify or is_loopback(name or "localhost"):
            continue
        how = f"https://{rest} without TLS client verification" if options.tls else f"http://{rest} without encryption"
        warnings.append(
            f"WARNING: API is accessible on {how}.\n"
            "         Whoever reaches it has root's rights on this host. Use --tlsverify."
        )
    return warnings


def build_commit() -> str:
    """The commit this was built from, if whoever built it said so."""
    return os.environ.get("PYKER_BUILD_COMMIT", "")


def build_time() -> str:
    """When the package's files were written."""
    return format_time(int(os.stat(pyker.__file__).st_mtime) * 1_000_000_000)


def python_version() -> str:
    """What "Go version" is for us: ``cpython3.11.2``."""
    return f"{platform.python_implementation().lower()}{platform.python_version()}"


def _security_options(*, remapped: bool) -> list[str]:
    options = []
    if os.path.exists("/proc/sys/kernel/seccomp"):
        options.append("name=seccomp,profile=builtin")
    if apparmor.enabled():
        options.append("name=apparmor")
    if os.path.exists("/proc/self/ns/cgroup") and layout_version() == 2:
        options.append("name=cgroupns")
    if remapped:
        options.append("name=userns")
    return options


def layout_version() -> int:
    """1 or 2; 1 where no cgroups are mounted."""
    try:
        return layout().version
    except NotSupported:
        return 1


def _flag(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
