"""``pyker info``: the engine, its drivers and its host. Source: Docker API GET /info; docker info's order of lines."""

from __future__ import annotations

from pyker import __version__
from pyker.client.command import Command
from pyker.client.failure import Failure
from pyker.client.flags import Flag
from pyker.client.units import bytes_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

# What is worth a warning when the kernel lacks it. IPv4Forwarding and the like are told by the daemon itself.
LACKING = (
    ("MemoryLimit", "No memory limit support"),
    ("SwapLimit", "No swap limit support"),
    ("OomKillDisable", "No oom kill disable support"),
    ("CpuCfsQuota", "No cpu cfs quota support"),
    ("CpuCfsPeriod", "No cpu cfs period support"),
    ("CPUShares", "No cpu shares support"),
    ("CPUSet", "No cpuset support"),
    ("IPv4Forwarding", "IPv4 forwarding is disabled"),
)


def _info(around: Surroundings, options: Options) -> int:
    failure: Failure | None = None
    info: dict[str, Any] = {}
    try:
        info = around.client.json("GET", "/info")
    except Failure as found:
        failure = found
    if template := options.text("format"):
        client = {"Version": __version__, "Context": "default", "Debug": around.debug, "Plugins": []}
        data = {**info, "ClientInfo": client}
        if template == "json":
            from pyker.client.wirejson import dumps

            around.out(dumps(data))
        else:
            from pyker.client.template import Template

            around.out(Template(template).render(data))
    else:
        around.write(
            describe(info, debug=around.debug) if failure is None else client_block(debug=around.debug) + "\nServer:\n"
        )
        if failure is None:
            for warning in warnings(info):
                around.err(warning)
    if failure is not None:
        raise failure
    return 0


def client_block(*, debug: bool) -> str:
    """What is known without a daemon."""
    return f"Client: Pyker\n Version:    {__version__}\n Context:    default\n Debug Mode: {_flag(debug)}\n"


def _flag(value: object) -> str:
    return "true" if value else "false"


def describe(info: dict[str, Any], *, debug: bool) -> str:
    """The whole text, client and server."""
    lines = ["", "Server:"]
    lines += [
        f" Containers: {info.get('Containers', 0)}",
        f"  Running: {info.get('ContainersRunning', 0)}",
        f"  Paused: {info.get('ContainersPaused', 0)}",
        f"  Stopped: {info.get('ContainersStopped', 0)}",
        f" Images: {info.get('Images', 0)}",
    ]
    _add(lines, "Server Version", info.get("ServerVersion"))
    _add(lines, "Storage Driver", info.get("Driver"))
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or []]
    for name, key in (("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver")):
        _add(lines, name, info.get(key))
    _add(lines, "Cgroup Version", info.get("CgroupVersion"))
    plugins = info.get("Plugins") or {}
    lines.append(" Plugins:")
    lines += [f"  {kind}: {' '.join(plugins.get(kind) or [])}" for kind in ("Volume", "Network")]
    for kind in ("Authorization", "Log"):
        if plugins.get(kind):
            lines.append(f"  {kind}: {' '.join(plugins[kind])}")
    lines.append(f" Swarm: {(info.get('Swarm') or {}).get('LocalNodeState', '')}")
    if info.get("Runtimes"):
        lines.append(f" Runtimes: {' '.join(sorted(info['Runtimes']))}")
        lines.append(f" Default Runtime: {info.get('DefaultRuntime', '')}")
    if info.get("OSType", "linux") == "linux":
        _add_linux(lines, info)
    _add_host(lines, info)
    return client_block(debug=debug) + "\n".join(lines) + "\n\n"


def _add(lines: list[str], name: str, value: object) -> None:
    if value:
        lines.append(f" {name}: {value}")


def _add_linux(lines: list[str], info: dict[str, Any]) -> None:
    lines.append(f" Init Binary: {info.get('InitBinary', '')}")
    for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        lines.append(f" {name} version: {(info.get(key) or {}).get('ID', '')}")
    options = info.get("SecurityOptions") or []
    if options:
        lines.append(" Security Options:")
    for option in options:
        fields = [part.partition("=") for part in str(option).split(",")]
        name = next((value for key, _, value in fields if key == "name"), str(option))
        lines.append(f"  {name}")
        lines += [f"   {key.capitalize()}: {value}" for key, _, value in fields if key != "name"]


def _add_host(lines: list[str], info: dict[str, Any]) -> None:
    rows = (
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    )
    for name, key in rows:
        _add(lines, name, info.get(key))
    lines.append(f" CPUs: {info.get('NCPU', 0)}")
    lines.append(f" Total Memory: {bytes_size(info.get('MemTotal') or 0)}")
    for name, key in (("Name", "Name"), ("ID", "ID")):
        _add(lines, name, info.get(key))
    lines.append(f" Docker Root Dir: {info.get('DockerRootDir', '')}")
    lines.append(f" Debug Mode: {_flag(info.get('Debug'))}")
    if info.get("Debug"):
        lines.append(f"  File Descriptors: {info.get('NFd', 0)}")
        lines.append(f"  Goroutines: {info.get('NGoroutines', 0)}")
        lines.append(f"  System Time: {info.get('SystemTime', '')}")
        lines.append(f"  EventsListeners: {info.get('NEventsListener', 0)}")
    for name, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        _add(lines, name, info.get(key))
    if info.get("Labels"):
        lines += [" Labels:", *(f"  {label}" for label in info["Labels"])]
    lines.append(f" Experimental: {_flag(info.get('ExperimentalBuild'))}")
    registries = info.get("RegistryConfig") or {}
    insecure = [
        name for name, entry in sorted((registries.get("IndexConfigs") or {}).items()) if not entry.get("Secure", True)
    ] + list(registries.get("InsecureRegistryCIDRs") or [])
    if insecure:
        lines += [" Insecure Registries:", *(f"  {name}" for name in insecure)]
    if registries.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {name}" for name in registries["Mirrors"])]
    lines.append(f" Live Restore Enabled: {_flag(info.get('LiveRestoreEnabled'))}")
    _add(lines, "Product License", info.get("ProductLicense"))
    if info.get("DefaultAddressPools"):
        lines.append(" Default Address Pools:")
        lines += [f"   Base: {pool.get('Base')}, Size: {pool.get('Size')}" for pool in info["DefaultAddressPools"]]
    if info.get("FirewallBackend"):
        lines.append(f" Firewall Backend: {info['FirewallBackend'].get('Driver', '')}")


def warnings(info: dict[str, Any]) -> list[str]:
    """What the daemon warns of; for old daemons, what follows from what the kernel lacks."""
    if info.get("Warnings"):
        return [str(warning) for warning in info["Warnings"]]
    return [f"WARNING: {text}" for key, text in LACKING if info.get(key) is False]


COMMANDS = {
    "info": Command(
        _info,
        "",
        flags=(Flag("format", "string", "How to print: json, or a Go template", short="f"),),
        most=0,
        aliases=("system info", "info"),
    )
}
