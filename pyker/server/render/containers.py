"""Containers and execs as list and inspect show them. Source: Docker API v1.41 and v1.45, GET /containers/..."""

from __future__ import annotations

from typing import Any

import msgspec

from pyker.api import gotime
from pyker.api.units import human_duration
from pyker.api.versions import Version
from pyker.container.record import Container, MountPoint, NetworkSettings, State
from pyker.jobs.containers import ContainerRow, ContainerView, ExecView
from pyker.types.config import EndpointSettings
from pyker.types.ids import short

DEFAULT_NETWORKS = frozenset({"bridge", "host", "none", "default", ""})
JsonObject = dict[str, Any]


def container_inspect(view: ContainerView, version: Version) -> JsonObject:
    """``GET /containers/{id}/json``."""
    record = view.container
    answer: JsonObject = {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": list(record.args),
        "State": _state(record.state),
        "Image": record.image,
        "ResolvConfPath": record.resolv_conf_path,
        "HostnamePath": record.hostname_path,
        "HostsPath": record.hosts_path,
        "LogPath": "" if record.state.started_at == gotime.ZERO_TIME else record.log_path,
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": record.driver,
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": record.app_armor_profile,
        "ExecIDs": list(view.exec_ids) or None,
        "HostConfig": host_config(record, version),
        "GraphDriver": {"Data": view.graphdriver_data or None, "Name": view.graphdriver_name or record.driver},
    }
    if view.size_root_fs >= 0:
        answer["SizeRw"] = max(view.size_rw, 0)
        answer["SizeRootFs"] = view.size_root_fs
    answer["Mounts"] = [_mount(point) for point in record.mount_points]
    answer["Config"] = msgspec.to_builtins(record.config)
    if not answer["Config"]["Volumes"]:
        answer["Config"]["Volumes"] = None
    answer["NetworkSettings"] = _network_settings(record, version)
    return answer


def _state(state: State) -> JsonObject:
    shown: JsonObject = {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.paused,
        "Restarting": state.restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    }
    if state.health is not None:
        shown["Health"] = msgspec.to_builtins(state.health)
    return shown


def host_config(record: Container, version: Version) -> JsonObject:
    """What was asked for and filled in, without what the version asked for does not know."""
    shown: JsonObject = msgspec.to_builtins(record.host_config)
    if version >= (1, 42):
        for name in ("KernelMemory", "KernelMemoryTCP"):
            if not shown.get(name):
                shown.pop(name, None)
    if version < (1, 43) or shown.get("Annotations") is None:
        shown.pop("Annotations", None)
    return shown


def _mount(point: MountPoint) -> JsonObject:
    shown: JsonObject = {"Type": point.type}
    if point.name:
        shown["Name"] = point.name
    shown["Source"] = point.source
    shown["Destination"] = point.destination
    if point.driver:
        shown["Driver"] = point.driver
    shown["Mode"] = point.mode
    shown["RW"] = point.rw
    shown["Propagation"] = point.propagation
    return shown


def endpoint(settings: EndpointSettings, version: Version) -> JsonObject:
    """One endpoint. Source: Docker API v1.45 EndpointSettings."""
    shown: JsonObject = {
        "IPAMConfig": None if settings.ipam_config is None else msgspec.to_builtins(settings.ipam_config),
        "Links": _list(settings.links),
        "Aliases": _list(settings.aliases),
        "NetworkID": settings.network_id,
        "EndpointID": settings.endpoint_id,
        "Gateway": settings.gateway,
        "IPAddress": settings.ip_address,
        "IPPrefixLen": settings.ip_prefix_len,
        "IPv6Gateway": settings.ipv6_gateway,
        "GlobalIPv6Address": settings.global_ipv6_address,
        "GlobalIPv6PrefixLen": settings.global_ipv6_prefix_len,
        "MacAddress": settings.mac_address,
        "DriverOpts": settings.driver_opts,
    }
    if version >= (1, 44):
        shown["DNSNames"] = _list(settings.dns_names)
    return shown


def _list(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _network_settings(record: Container, version: Version) -> JsonObject:
    settings: NetworkSettings = record.network_settings
    networks: JsonObject = {}
    for name, one in settings.networks.items():
        networks[name] = shown = endpoint(one, version)
        if version < (1, 45) and name not in DEFAULT_NETWORKS:
            aliases = [alias for alias in shown["Aliases"] or () if alias != short(record.id)]
            shown["Aliases"] = [*aliases, short(record.id)]
    # The old top-level fields speak of the default bridge, and of nothing else.
    first = settings.networks.get("bridge", EndpointSettings())
    return {
        "Bridge": "",
        "SandboxID": settings.sandbox_id,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": msgspec.to_builtins(settings.ports),
        "SandboxKey": settings.sandbox_key,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.endpoint_id,
        "Gateway": first.gateway,
        "GlobalIPv6Address": first.global_ipv6_address,
        "GlobalIPv6PrefixLen": first.global_ipv6_prefix_len,
        "IPAddress": first.ip_address,
        "IPPrefixLen": first.ip_prefix_len,
        "IPv6Gateway": first.ipv6_gateway,
        "MacAddress": first.mac_address,
        "Networks": networks,
    }


def container_row(row: ContainerRow, version: Version, now_ns: int) -> JsonObject:
    """One element of ``GET /containers/json``."""
    record = row.container
    shown: JsonObject = {
        "Id": record.id,
        "Names": [f"/{name}" for name in sorted((record.name, *row.linked_names))],
        "Image": row.image_name,
        "ImageID": record.image,
        "Command": command_line(record),
        "Created": gotime.parse_time(record.created) // gotime.SECOND,
        "Ports": ports(record.network_settings),
    }
    if row.size_rw > 0:
        shown["SizeRw"] = row.size_rw
    if row.size_root_fs > 0:
        shown["SizeRootFs"] = row.size_root_fs
    shown["Labels"] = record.config.labels or {}
    shown["State"] = record.state.status
    shown["Status"] = status_text(record.state, now_ns)
    shown["HostConfig"] = {"NetworkMode": record.host_config.network_mode}
    networks = {name: endpoint(one, version) for name, one in record.network_settings.networks.items()}
    for one in networks.values():
        # The list does not say by which names a container is found.
        one.update({name: None for name in ("Aliases", "DNSNames") if name in one})
    shown["NetworkSettings"] = {"Networks": networks}
    shown["Mounts"] = [_mount(point) for point in record.mount_points]
    return shown


def command_line(record: Container) -> str:
    """The command with its arguments, those with a space in quotes."""
    arguments = [f"'{argument}'" if " " in argument else argument for argument in record.args]
    return " ".join([record.path, *arguments])


def ports(settings: NetworkSettings) -> list[JsonObject]:
    """Published and exposed ports, one element a binding, in the order of their numbers."""
    shown: list[JsonObject] = []
    for port, bindings in settings.ports.items():
        number, _, protocol = port.partition("/")
        plain: JsonObject = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            shown.append(plain)
            continue
        for binding in bindings:
            one: JsonObject = {"IP": binding.host_ip} if binding.host_ip else {}
            one |= {"PrivatePort": plain["PrivatePort"]}
            if binding.host_port.isdecimal():
                one["PublicPort"] = int(binding.host_port)
            shown.append(one | {"Type": plain["Type"]})
    return sorted(shown, key=lambda port: (port["PrivatePort"], port["Type"], port.get("IP", "")))


def status_text(state: State, now_ns: int) -> str:
    """``Up 3 seconds (healthy)``, ``Exited (3) 4 minutes ago`` and so on, as ps prints it."""
    if state.running or state.paused or state.restarting:
        up = _since(state.started_at, now_ns)
        if state.paused:
            return f"Up {up} (Paused)"
        if state.restarting:
            return f"Restarting ({state.exit_code}) {_since(state.finished_at, now_ns)} ago"
        match state.health.status if state.health is not None else "none":
            case "starting":
                return f"Up {up} (health: starting)"
            case "none" | "":
                return f"Up {up}"
            case health:
                return f"Up {up} ({health})"
    if state.removal_in_progress:
        return "Removal In Progress"
    if state.dead:
        return "Dead"
    if state.started_at == gotime.ZERO_TIME:
        return "Created"
    if state.finished_at == gotime.ZERO_TIME:
        return ""
    return f"Exited ({state.exit_code}) {_since(state.finished_at, now_ns)} ago"


def _since(moment: str, now_ns: int) -> str:
    return human_duration((now_ns - gotime.parse_time(moment)) / gotime.SECOND)


def exec_inspect(view: ExecView) -> JsonObject:
    """``GET /exec/{id}/json``."""
    request = view.request
    process: JsonObject = {
        "tty": request.tty,
        "entrypoint": request.command[0] if request.command else "",
        "arguments": list(request.command[1:]),
        "privileged": request.privileged,
    }
    if request.user:
        process["user"] = request.user
    return {
        "ID": view.id,
        "Running": view.running,
        "ExitCode": view.exit_code,
        "ProcessConfig": process,
        "OpenStdin": request.attach_stdin,
        "OpenStderr": request.attach_stderr,
        "OpenStdout": request.attach_stdout,
        "CanRemove": view.can_remove,
        "ContainerID": view.container_id,
        "DetachKeys": "",
        "Pid": view.pid,
    }
