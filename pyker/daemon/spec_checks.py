"""What a create request may ask for: refusals and warnings, in the reference engine's words.

Source: Docker API v1.45 POST /containers/create; the texts were compared with the reference engine's answers.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator

from msgspec import UNSET

from pyker.daemon import spec_log, spec_mounts, spec_process, spec_security
from pyker.errors import InvalidParameter
from pyker.libcontainer import capabilities, devices, rlimits
from pyker.libcontainer.cgroups.support import Support, supported
from pyker.libcontainer.spec import Rlimit
from pyker.networkdriver.ports import parse_host_port
from pyker.types import signals
from pyker.types.config import ContainerConfig, HealthConfig, HostConfig

MIN_MEMORY_BYTES = 6 << 20
_RUNTIMES = frozenset({"", "native", "runc", "io.containerd.runc.v2"})
_MILLISECOND = 1_000_000


def validate(config: ContainerConfig, host: HostConfig) -> tuple[str, ...]:
    """Warnings for what this host cannot do and leaves away.

    Raises: InvalidParameter for what cannot be right, NotFound for a device that is not there, NotSupported.
    """
    _check_config(config)
    _check_modes(host)
    _check_network(config, host)
    _check_shared_network(config, host)
    _check_security(host)
    warnings = list(check_resources(host))
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    for limit in host.ulimits or ():
        rlimits.check(Rlimit(name=limit.name, soft=limit.soft, hard=limit.hard))
    for text in host.device_cgroup_rules or ():
        devices.parse_rule(text)
    for target, text in ({} if host.tmpfs is UNSET else host.tmpfs or {}).items():
        if not target.startswith("/"):
            raise InvalidParameter(f"invalid mount path: '{target}' mount path must be absolute")
        spec_mounts.check_tmpfs(text)
    spec_log.check(host.log_config.type, host.log_config.config or {})
    if host.runtime not in _RUNTIMES:
        raise InvalidParameter(f"Unknown runtime specified {host.runtime}")
    _, dropped = capabilities.resolve(host.cap_add or (), host.cap_drop or (), privileged=host.privileged)
    warnings += dropped
    wanted = tuple(Rlimit(name=limit.name, soft=limit.soft, hard=limit.hard) for limit in host.ulimits or ())
    _, lowered = rlimits.clip(wanted, may_raise="CAP_SYS_RESOURCE" in capabilities.bounding_set())
    _, raised = spec_process.oom_score(host.oom_score_adj)
    return (*warnings, *lowered, *raised)


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    for item in config.env or ():
        if not item.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {item}")
    if config.stop_signal is not UNSET and config.stop_signal:
        signals.parse(config.stop_signal)
    if config.healthcheck is not UNSET and config.healthcheck is not None:
        _check_health(config.healthcheck)


def _check_health(health: HealthConfig) -> None:
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MILLISECOND:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def _check_modes(host: HostConfig) -> None:
    for name, mode, words in (
        ("IPC", host.ipc_mode, ("", "none", "private", "shareable", "host")),
        ("PID", host.pid_mode, ("", "host")),
        ("UTS", host.uts_mode, ("", "host")),
    ):
        other = name != "UTS" and mode.startswith("container:") and len(mode) > len("container:")
        if mode not in words and not other:
            raise InvalidParameter(f"invalid {name} mode: {mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.userns_mode not in ("", "host"):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")
    if host.isolation.lower() not in ("", "default"):
        raise InvalidParameter(f"Invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if ".." in host.cgroup_parent.split("/"):
        raise InvalidParameter(f"invalid cgroup parent {host.cgroup_parent!r}: it must not contain '..'")
    if host.privileged and host.cgroupns_mode == "" and host.userns_mode not in ("", "host"):
        raise InvalidParameter("privileged mode is incompatible with user namespaces")
    _check_sysctls(host)


def _check_network(config: ContainerConfig, host: HostConfig) -> None:
    if config.hostname and host.uts_mode == "host":
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    for entry in host.extra_hosts or ():
        name, colon, address = entry.partition(":")
        if not name or not colon:
            raise InvalidParameter(f'bad format for add-host: "{entry}"', hint="name:address, or name:host-gateway")
        if address != "host-gateway" and not _is_address(address):
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"')
    for bindings in (host.port_bindings or {}).values():
        for binding in bindings or ():
            try:
                parse_host_port(binding.host_port)
            except InvalidParameter as error:
                raise InvalidParameter(f'invalid port specification: "{binding.host_port}"') from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _check_shared_network(config: ContainerConfig, host: HostConfig) -> None:
    """What belongs to the owner of a network and not to who shares it."""
    shared = host.network_mode.startswith("container:")
    links = "can't be used with links. This would result in undefined behavior"
    mac_address = "" if config.mac_address is UNSET else config.mac_address
    exposed = {} if config.exposed_ports is UNSET else config.exposed_ports
    for wrong, what in (
        (shared and config.hostname, "hostname and the network mode"),
        (shared and host.links, f"container type network {links}"),
        (host.network_mode == "host" and host.links, f"host type networking {links}"),
        (shared and host.dns, "dns and the network mode"),
        (shared and host.extra_hosts, "custom host-to-IP mapping and the network mode"),
        ((shared or host.network_mode == "host") and mac_address, "mac-address and the network mode"),
        (
            shared and (host.port_bindings or host.publish_all_ports),
            "port publishing and the container type network mode",
        ),
        (shared and exposed, "port exposing and the container type network mode"),
    ):
        if wrong:
            raise InvalidParameter(f"conflicting options: {what}")


_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in (
        "msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced",
    )
)  # fmt: skip


def _check_sysctls(host: HostConfig) -> None:
    """Only what belongs to a namespace of the container's own may be set. Source: OCI runtime, namespaced sysctls."""
    for name in {} if host.sysctls is UNSET else host.sysctls or {}:
        if ".." in name or name.startswith("/") or not re.fullmatch(r"[A-Za-z0-9_.\-/*]+", name):
            raise InvalidParameter(f"invalid sysctl {name!r}")
        key = name.replace("/", ".")
        if key in _IPC_SYSCTLS or key.startswith("fs.mqueue."):
            if host.ipc_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        elif key.startswith("net."):
            if host.network_mode == "host":
                raise InvalidParameter(f'sysctl "{name}" not allowed in host network namespace')
        elif key in ("kernel.hostname", "kernel.domainname"):
            if host.uts_mode == "host" or key == "kernel.hostname":
                raise InvalidParameter(f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field')
        else:
            raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')


def _check_security(host: HostConfig) -> None:
    spec_security.check(host.security_opt, privileged=host.privileged)


# Resources


def _parse_list(text: str, what: str) -> set[int]:
    """``0-3,7`` as numbers. Raises: InvalidParameter."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        right = first.isdigit() and (not dash or last.isdigit()) and int(first) <= int(last or first) <= 8192
        if not right:
            raise InvalidParameter(f"Invalid value {text} for cpuset {what}: invalid format: {part}")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def check_resources(host: HostConfig, can: Support | None = None, *, update: bool = False) -> Iterator[str]:
    """Warnings about limits that this kernel lacks; the iterator must be run through for the refusals to happen.

    Raises: InvalidParameter.
    """
    can = can or supported()
    yield from _check_memory(host, can, update=update)
    if host.pids_limit and not can.pids:
        yield _lacks("PIDs limit capabilities", "PIDs limit discarded.")
    yield from _check_cpu(host, can)
    yield from _check_blkio(host, can)


def _lacks(what: str, consequence: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {consequence}"


def _check_memory(host: HostConfig, can: Support, *, update: bool) -> Iterator[str]:
    memory, swap = host.memory, host.memory_swap
    if memory != 0 and memory < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory > 0 and not can.memory:
        yield _lacks("memory limit capabilities", "Limitation discarded.")
        memory, swap = 0, -1
    if memory > 0 and swap != -1 and not can.swap:
        yield _lacks("swap limit capabilities", "Memory limited without swap.")
        swap = -1
    if memory > 0 and 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swappiness is not None and host.memory_swappiness != -1:
        if not can.memory_swappiness:
            yield _lacks("memory swappiness capabilities", "Memory swappiness discarded.")
        elif not 0 <= host.memory_swappiness <= 100:
            raise InvalidParameter(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    reservation = host.memory_reservation
    if reservation > 0 and not can.memory_reservation:
        yield _lacks("memory soft limit capabilities", "Limitation discarded.")
        reservation = 0
    if 0 < reservation < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if memory > 0 and reservation > 0 and memory < reservation:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if 0 < host.kernel_memory < MIN_MEMORY_BYTES:
        raise InvalidParameter("Minimum kernel memory limit allowed is 6MB")
    if host.kernel_memory > 0:
        yield "Specifying a kernel memory limit is deprecated and will be removed in a future release."
    if host.oom_kill_disable:
        if not can.oom_kill_disable:
            yield "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        elif memory == 0:
            yield (
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
                "running out of resources."
            )


def _check_cpu(host: HostConfig, can: Support) -> Iterator[str]:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus > 0 and not can.cpu_cfs:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    cpus = os.cpu_count() or 1
    if host.nano_cpus < 0 or host.nano_cpus > cpus * 1_000_000_000:
        raise InvalidParameter(f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not can.cpu_realtime:
        yield _lacks("CPU real-time scheduler", "CPU real-time limits discarded.")
    if host.cpu_shares < 0:
        raise InvalidParameter("shares: invalid argument")
    if host.cpu_shares > 0 and not can.cpu_shares:
        yield _lacks("CPU shares", "Shares discarded.")
    if (host.cpu_period != 0 or host.cpu_quota != 0) and not can.cpu_cfs:
        yield "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
    elif host.cpu_period != 0 and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    elif 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_percent > 0:
        yield "linux does not support CPU percent. Percent discarded."
    if (host.cpuset_cpus or host.cpuset_mems) and not can.cpuset:
        yield _lacks("cpuset", "Cpuset discarded.")
        return
    for wanted, available, what, plural in (
        (host.cpuset_cpus, can.cpus, "cpus", "CPUs"),
        (host.cpuset_mems, can.mems, "mems", "memory nodes"),
    ):
        if wanted and not _parse_list(wanted, what) <= (_parse_list(available, what) if available else set()):
            raise InvalidParameter(f"Requested {plural} are not available - requested {wanted}, available: {available}")


def _check_blkio(host: HostConfig, can: Support) -> Iterator[str]:
    if host.blkio_weight > 0 and not can.blkio_weight:
        yield _lacks("Block I/O weight", "Weight discarded.")
    elif host.blkio_weight != 0 and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host.io_maximum_bandwidth:
        raise InvalidParameter("Invalid QoS settings: linux does not support configuration of maximum bandwidth")
    if host.io_maximum_iops:
        raise InvalidParameter("Invalid QoS settings: linux does not support configuration of maximum IOPs")
    if host.blkio_weight_device and not can.blkio_weight_device:
        yield _lacks("Block I/O weight_device", "Weight-device discarded.")
    for wanted, what in (
        (host.blkio_device_read_bps, ("BPS Block I/O read limit", "Block I/O BPS read limit discarded.")),
        (host.blkio_device_write_bps, ("BPS Block I/O write limit", "Block I/O BPS write limit discarded.")),
        (host.blkio_device_read_iops, ("IOPS Block read limit", "Block I/O IOPS read limit discarded.")),
        (host.blkio_device_write_iops, ("IOPS Block write limit", "Block I/O IOPS write limit discarded.")),
    ):
        if wanted and not can.blkio_throttle:
            yield _lacks(*what)
