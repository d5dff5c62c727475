"""The body of POST /containers/create, from the flags of ``run`` or ``create``.

Every field that the docker CLI sends is sent, with the same zero values: daemons tell null from empty.
Source: Docker API v1.50 POST /containers/create.
"""

from __future__ import annotations

import os

from pyker.client.container import networks
from pyker.client.container.environment import as_map, read_pairs
from pyker.client.container.flags import parse_ulimit, split_rate
from pyker.client.container.mounts import parse_gpus, parse_mount, sort_volumes
from pyker.client.container.ports import Ports
from pyker.client.failure import Failure
from pyker.client.flags import BadValue, quote_go

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options

MAX_PROFILE = 16 * 1024 * 1024


def build_body(options: Options, *, proxies: dict[str, str], api_at_least: tuple[int, ...]) -> dict[str, Any]:
    """Everything the flags say, as the API wants it. ``api_at_least`` is the version spoken, such as (1, 41).

    Raises Failure with status 125 for what cannot be.
    """
    image, command = options.arguments[0], options.arguments[1:]
    try:
        binds, volumes = sort_volumes(options.items("volume"))
    except BadValue as error:
        raise Failure(str(error), 125) from None
    ports = Ports()
    for spec in options.items("publish"):
        ports.publish(spec)
    for spec in options.items("expose"):
        ports.expose(spec)
    attached = networks.attachments(options)
    given = bool(options.items("network") or options.items("net"))
    body = _config(options, image, command, volumes, ports, proxies)
    if api_at_least < (1, 44) and attached[0].mac:
        body["MacAddress"] = attached[0].mac
    host_config = _host_config(options, binds, ports, attached[0].name)
    if api_at_least < (1, 42) and options.number("kernel-memory"):
        host_config["KernelMemory"] = options.number("kernel-memory")
    body["HostConfig"] = host_config
    body["NetworkingConfig"] = {"EndpointsConfig": networks.endpoints(attached, given=given)}
    return body


def _config(
    options: Options,
    image: str,
    command: list[str],
    volumes: dict[str, dict[str, str]],
    ports: Ports,
    proxies: dict[str, str],
) -> dict[str, Any]:
    streams = options.items("attach")
    stdin = "stdin" in streams or options.on("interactive")
    stdout = "stdout" in streams or not streams
    stderr = "stderr" in streams or not streams
    env = read_pairs(options.items("env-file"), options.items("env"), inherit=True)
    present = {item.partition("=")[0] for item in env}
    env += [f"{name}={value}" for name, value in proxies.items() if name not in present]
    labels = as_map(read_pairs(options.items("label-file"), options.items("label"), inherit=False))
    entrypoint = [options.text("entrypoint")] if options.given("entrypoint") else None
    config: dict[str, Any] = {
        "Hostname": options.text("hostname"),
        "Domainname": options.text("domainname"),
        "User": options.text("user"),
        "AttachStdin": stdin,
        "AttachStdout": stdout,
        "AttachStderr": stderr,
        "Tty": options.on("tty"),
        "OpenStdin": options.on("interactive"),
        "StdinOnce": options.on("interactive") and stdin,
        "Env": env or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": volumes,
        "WorkingDir": options.text("workdir"),
        "Entrypoint": entrypoint,
        "OnBuild": None,
        "Labels": labels,
    }
    if ports.exposed:
        config["ExposedPorts"] = ports.exposed
    if (health := _health(options)) is not None:
        config["Healthcheck"] = health
    if options.text("stop-signal"):
        config["StopSignal"] = options.text("stop-signal")
    if options.given("stop-timeout"):
        config["StopTimeout"] = options.number("stop-timeout")
    return config


def _health(options: Options) -> dict[str, Any] | None:
    settings: dict[str, Any] = {}
    if options.text("health-cmd"):
        settings["Test"] = ["CMD-SHELL", options.text("health-cmd")]
    durations = (
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
        ("health-retries", "Retries"),
    )
    for flag, name in durations:
        if options.number(flag) < 0:
            raise Failure(f"--{flag} cannot be negative", 125)
        if options.number(flag):
            settings[name] = options.number(flag)
    if options.on("no-healthcheck"):
        if settings:
            raise Failure("--no-healthcheck conflicts with --health-* options", 125)
        return {"Test": ["NONE"]}
    return settings or None


def _host_config(options: Options, binds: list[str], ports: Ports, network: str) -> dict[str, Any]:
    restart = restart_policy(options.text("restart"))
    if options.on("rm") and restart["Name"] not in ("", "no"):
        raise Failure("conflicting options: cannot specify both --restart and --rm", 125)
    security, unconfined = _security(options.items("security-opt"))
    _check_modes(options)
    host: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": options.text("cidfile"),
        "LogConfig": {"Type": options.text("log-driver"), "Config": _log_options(options)},
        "NetworkMode": network,
        "PortBindings": ports.bindings,
        "RestartPolicy": restart,
        "AutoRemove": options.on("rm"),
        "VolumeDriver": options.text("volume-driver"),
        "VolumesFrom": options.items("volumes-from") or None,
        "ConsoleSize": [0, 0],
        "CapAdd": _capabilities(options.items("cap-add")),
        "CapDrop": _capabilities(options.items("cap-drop")),
        "CgroupnsMode": options.text("cgroupns"),
        "Dns": options.items("dns"),
        "DnsOptions": options.items("dns-option") + options.items("dns-opt"),
        "DnsSearch": options.items("dns-search"),
        "ExtraHosts": options.items("add-host") or None,
        "GroupAdd": options.items("group-add") or None,
        "IpcMode": options.text("ipc"),
        "Cgroup": "",
        "Links": options.items("link") or None,
        "OomScoreAdj": options.number("oom-score-adj"),
        "PidMode": options.text("pid"),
        "Privileged": options.on("privileged"),
        "PublishAllPorts": options.on("publish-all"),
        "ReadonlyRootfs": options.on("read-only"),
        "SecurityOpt": security if security or unconfined else None,
        "UTSMode": options.text("uts"),
        "UsernsMode": options.text("userns"),
        "ShmSize": options.number("shm-size"),
        "Isolation": options.text("isolation"),
        "MaskedPaths": [] if unconfined else None,
        "ReadonlyPaths": [] if unconfined else None,
    }
    host.update(_resources(options))
    for flag, name in (("annotation", "Annotations"), ("sysctl", "Sysctls")):
        if options.items(flag):
            host[name] = as_map(options.items(flag))
    if options.items("storage-opt"):
        host["StorageOpt"] = _storage(options.items("storage-opt"))
    if options.items("tmpfs"):
        host["Tmpfs"] = {path: rest for path, _, rest in (item.partition(":") for item in options.items("tmpfs"))}
    if options.text("runtime"):
        host["Runtime"] = options.text("runtime")
    if options.items("mount"):
        host["Mounts"] = [parse_mount(item) for item in options.items("mount")]
    if options.given("init"):
        host["Init"] = options.on("init")
    return host


def _resources(options: Options) -> dict[str, Any]:
    swappiness = options.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise Failure(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100", 125)
    devices, requests = _devices(options)
    return {
        "CpuShares": options.number("cpu-shares"),
        "Memory": options.number("memory"),
        "NanoCpus": options.number("cpus"),
        "CgroupParent": options.text("cgroup-parent"),
        "BlkioWeight": options.number("blkio-weight"),
        "BlkioWeightDevice": [
            {"Path": path, "Weight": int(weight)}
            for path, _, weight in (item.partition(":") for item in options.items("blkio-weight-device"))
        ],
        "BlkioDeviceReadBps": _rates(options, "device-read-bps", is_bytes=True),
        "BlkioDeviceWriteBps": _rates(options, "device-write-bps", is_bytes=True),
        "BlkioDeviceReadIOps": _rates(options, "device-read-iops", is_bytes=False),
        "BlkioDeviceWriteIOps": _rates(options, "device-write-iops", is_bytes=False),
        "CpuPeriod": options.number("cpu-period"),
        "CpuQuota": options.number("cpu-quota"),
        "CpuRealtimePeriod": options.number("cpu-rt-period"),
        "CpuRealtimeRuntime": options.number("cpu-rt-runtime"),
        "CpusetCpus": options.text("cpuset-cpus"),
        "CpusetMems": options.text("cpuset-mems"),
        "Devices": devices,
        "DeviceCgroupRules": options.items("device-cgroup-rule") or None,
        "DeviceRequests": requests or None,
        "MemoryReservation": options.number("memory-reservation"),
        "MemorySwap": options.number("memory-swap"),
        "MemorySwappiness": swappiness,
        "OomKillDisable": options.on("oom-kill-disable"),
        "PidsLimit": options.number("pids-limit"),
        "Ulimits": _ulimits(options.items("ulimit")),
        "CpuCount": options.number("cpu-count"),
        "CpuPercent": options.number("cpu-percent"),
        "IOMaximumIOps": options.number("io-maxiops"),
        "IOMaximumBandwidth": options.number("io-maxbandwidth"),
    }


def _rates(options: Options, flag: str, *, is_bytes: bool) -> list[dict[str, Any]]:
    pairs = (split_rate(item, is_bytes=is_bytes) for item in options.items(flag))
    return [{"Path": path, "Rate": rate} for path, rate in pairs]


def _ulimits(items: list[str]) -> list[dict[str, Any]]:
    found = {str(limit["Name"]): limit for limit in (parse_ulimit(item) for item in items)}
    return [found[name] for name in sorted(found)]


def _devices(options: Options) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    devices: list[dict[str, str]] = []
    requests: list[dict[str, Any]] = []
    cdi: list[str] = []
    for item in options.items("device"):
        if not item.startswith("/") and "=" in item and "/" in item.partition("=")[0]:
            cdi.append(item)
            continue
        devices.append(_device(item))
    try:
        requests += [parse_gpus(item) for item in options.items("gpus")]
    except BadValue as error:
        raise Failure(str(error), 125) from None
    if cdi:
        requests.append({"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": None, "Options": None})
    return devices, requests


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3 or not text:
        raise Failure(f"bad format for path: {text}", 125)
    source = target = parts[0]
    permissions = "rwm"
    if len(parts) == 2 and _is_mode(parts[1]):
        permissions = parts[1]
    elif len(parts) == 2:
        target = parts[1]
    elif len(parts) == 3:
        target, permissions = parts[1], parts[2]
        if not _is_mode(permissions):
            raise Failure(f"bad mode specified: {permissions}", 125)
    for path in (source, target):
        if not path.startswith("/"):
            raise Failure(f"{path} is not an absolute path", 125)
    return {"PathOnHost": source, "PathInContainer": target or source, "CgroupPermissions": permissions}


def _is_mode(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and all(letter in "rwm" for letter in text)


def _capabilities(names: list[str]) -> list[str] | None:
    found: list[str] = []
    for name in names:
        name = name.strip().upper()
        if name != "ALL" and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name not in found:
            found.append(name)
    return sorted(found) or None


def restart_policy(text: str) -> dict[str, Any]:
    name, colon, retries = text.partition(":")
    if colon and not name:
        raise Failure("invalid restart policy format: no policy provided before colon", 125)
    count = 0
    if retries:
        if not retries.removeprefix("-").isdigit():
            raise Failure("invalid restart policy format: maximum retry count must be an integer", 125)
        count = int(retries)
    return {"Name": name, "MaximumRetryCount": count}


def _log_options(options: Options) -> dict[str, str]:
    if options.text("log-driver") == "none" and options.items("log-opt"):
        raise Failure("invalid logging opts for driver none", 125)
    return as_map(options.items("log-opt"))


def _storage(items: list[str]) -> dict[str, str]:
    for item in items:
        if "=" not in item:
            raise Failure("invalid storage option", 125)
    return as_map(items)


def _check_modes(options: Options) -> None:
    for flag, what in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER")):
        mode = options.text(flag)
        joined = flag == "pid" and mode.startswith("container:") and len(mode) > len("container:")
        if mode not in ("", "host") and not joined:
            raise Failure(f"--{flag}: invalid {what} mode", 125)
    if options.text("cgroupns") not in ("", "host", "private"):
        raise Failure("--cgroupns: invalid CGROUP mode", 125)


def _security(items: list[str]) -> tuple[list[str], bool]:
    """The options, seccomp profiles read in; and whether masked paths are to be left open."""
    found: list[str] = []
    unconfined = False
    for item in items:
        name, mark, value = item.partition("=")
        if not mark:
            name, mark, value = item.partition(":")
        if not mark and item != "no-new-privileges":
            raise Failure(f"Invalid --security-opt: {quote_go(item)}", 125)
        if name == "systempaths" and value == "unconfined":
            unconfined = True
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            item = f"seccomp={_profile(value)}"
        found.append(item)
    return found, unconfined


def _profile(path: str) -> str:
    import json

    try:
        with open(os.path.expanduser(path), "rb") as stream:
            data = stream.read(MAX_PROFILE)
    except OSError as error:
        raise Failure(
            f"opening seccomp profile ({path}) failed: open {path}: {(error.strerror or '').lower()}", 125
        ) from error
    try:
        return json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False)
    except ValueError as error:
        raise Failure(f"compacting json for seccomp profile ({path}) failed: {error}", 125) from None
