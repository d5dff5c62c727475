"""The flags that ``run`` and ``create`` share, and how each value is read.

Names, types and defaults are the docker CLI's, so that command lines carry over.
"""

from __future__ import annotations

import os

from pyker.client.flags import BadValue, Flag, parse_integer, quote_go

STREAMS = ("stdin", "stdout", "stderr")


def check_attach(value: str) -> str:
    """``-a`` names a stream, in any case."""
    lowered = value.lower()
    if lowered not in STREAMS:
        raise BadValue("valid streams are STDIN, STDOUT and STDERR")
    return lowered


def check_env(value: str) -> str:
    """``A`` alone takes the client's own value, if it has one."""
    name, equals, _ = value.partition("=")
    if not name:
        raise BadValue(f"invalid environment variable: {value}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return value


def check_label(value: str) -> str:
    """A label needs a name."""
    if not value.partition("=")[0].strip():
        raise BadValue(f"invalid label '{value}': empty name")
    return value


def is_ip(text: str) -> bool:
    """Whether ``text`` is an address, of version 4 or 6."""
    import _socket

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def check_ip(value: str) -> str:
    """An address without anything around it."""
    if not is_ip(value.strip()):
        raise BadValue(f"IP address is not correctly formatted: {value}")
    return value.strip()


def check_add_host(value: str) -> str:
    """``name:address`` or ``name=address``; ``host-gateway`` stands for the host."""
    cuts = [value.index(mark) for mark in ":=" if mark in value]
    if not cuts or min(cuts) == 0:
        raise BadValue(f"bad format for add-host: {quote_go(value)}")
    name, address = value[: min(cuts)], value[min(cuts) + 1 :]
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not is_ip(address):
        raise BadValue(f"invalid IP address in add-host: {quote_go(address)}")
    return f"{name}:{address}"


def check_dns_search(value: str) -> str:
    """A domain, or ``.`` for none."""
    trimmed = value.strip(" ")
    if trimmed == ".":
        return trimmed
    bare = trimmed.removesuffix(".")
    parts = bare.split(".")
    good = bare and all(part.replace("-", "a").isalnum() and part[0] != "-" and part[-1] != "-" for part in parts)
    if not good or len(bare) > 255:
        raise BadValue(f"{value} is not a valid domain")
    return trimmed


def check_link(value: str) -> str:
    """``name`` or ``name:alias``."""
    if not value:
        raise BadValue("empty string specified for links")
    if value.count(":") > 1:
        raise BadValue(f"bad format for links: {value}")
    return value


def check_sysctl(value: str) -> str:
    """``name=value``."""
    if "=" not in value:
        raise BadValue(f"invalid argument {quote_go(value)}: expected name=value") from None
    return value


def check_ulimit(value: str) -> str:
    """``name=soft[:hard]``, -1 for none."""
    parse_ulimit(value)
    return value


ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # noqa: SIM905
)


def parse_ulimit(value: str) -> dict[str, str | int]:
    """One ``--ulimit`` as the API wants it. Raises BadValue."""
    name, equals, limits = value.partition("=")
    if not equals:
        raise BadValue(f"invalid ulimit argument: {value}")
    if name not in ULIMITS:
        raise BadValue(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    if ":" in hard_text:
        raise BadValue(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft = parse_integer(soft_text, signed=True, bits=64)
    hard = parse_integer(hard_text, signed=True, bits=64) if colon else soft
    if hard != -1 and (soft == -1 or soft > hard):
        raise BadValue(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def check_weight_device(value: str) -> str:
    """``path:weight``, 10 to 1000 or 0."""
    path, colon, weight = value.partition(":")
    if not colon or not path:
        raise BadValue(f"bad format: {value}")
    if not path.startswith("/dev/"):
        raise BadValue(f"bad format for device path: {value}")
    if not weight.isdigit() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise BadValue(f"invalid weight for device: {value}")
    return value


def split_rate(value: str, *, is_bytes: bool) -> tuple[str, int]:
    """``path:rate`` in two. Raises BadValue."""
    path, colon, rate = value.partition(":")
    if not colon or not path or ":" in rate:
        raise BadValue(f"bad format: {value}")
    if not path.startswith("/dev/"):
        raise BadValue(f"bad format for device path: {value}")
    if is_bytes:
        from pyker.client.units import parse_bytes

        try:
            return path, parse_bytes(rate)
        except ValueError:
            raise BadValue(
                f"invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. "
                "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
            ) from None
    if not rate.isdigit():
        raise BadValue(
            f"invalid rate for device: {value}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return path, int(rate)


def check_bps(value: str) -> str:
    """``path:bytes``."""
    split_rate(value, is_bytes=True)
    return value


def check_iops(value: str) -> str:
    """``path:operations``."""
    split_rate(value, is_bytes=False)
    return value


def check_cgroup_rule(value: str) -> str:
    """``c 1:3 rwm``: type, numbers, permissions."""
    parts = value.split(" ")
    good = len(parts) == 3 and parts[0] in ("a", "b", "c") and 1 <= len(parts[2]) <= 3
    if good:
        major, colon, minor = parts[1].partition(":")
        good = bool(colon) and all(part == "*" or part.isdigit() for part in (major, minor))
        good = good and all(letter in "rwm" for letter in parts[2])
    if not good:
        raise BadValue(f"invalid device cgroup format '{value}'")
    return value


def check_mount(value: str) -> str:
    """``type=bind,src=/a,dst=/b``: read once here, so that a mistake is told with the flag."""
    from pyker.client.container.mounts import parse_mount

    parse_mount(value)
    return value


def check_network(value: str) -> str:
    """A network's name, or ``name=x,alias=y``."""
    from pyker.client.container.networks import parse_network

    parse_network(value)
    return value


def check_volume(value: str) -> str:
    """Anything but nothing; the daemon knows the rest."""
    return value


SHARED = (
    Flag("add-host", "list", "Add a line to /etc/hosts (name:address)", check=check_add_host),
    Flag("annotation", "map", "Add an annotation, which the OCI runtime is handed (name=value)"),
    Flag("attach", "list", "Stream to attach: stdin, stdout or stderr", short="a", check=check_attach),
    Flag("blkio-weight", "uint16", "Share of block I/O, 10 to 1000; 0 leaves it as it is"),
    Flag("blkio-weight-device", "list", "Share of one device's I/O (path:weight)", check=check_weight_device),
    Flag("cap-add", "list", "Add a capability"),
    Flag("cap-drop", "list", "Take a capability away"),
    Flag("cgroup-parent", "string", "Cgroup to put the container's own under"),
    Flag("cgroupns", "string", "Cgroup namespace: host or private; the daemon decides if not given"),
    Flag("cidfile", "string", "File to write the container's ID to"),
    Flag("cpu-count", "int", "Windows only", hidden=True),
    Flag("cpu-percent", "int", "Windows only", hidden=True),
    Flag("cpu-period", "int", "Length of a CFS period, in microseconds"),
    Flag("cpu-quota", "int", "Microseconds of processor in each CFS period"),
    Flag("cpu-rt-period", "int", "Length of a real-time period, in microseconds"),
    Flag("cpu-rt-runtime", "int", "Microseconds of real-time processor in each period"),
    Flag("cpu-shares", "int", "Relative weight when processors are scarce", short="c"),
    Flag("cpus", "decimal", "Processors to use at most, such as 1.5"),
    Flag("cpuset-cpus", "string", "Processors to run on (0-3, 0,1)"),
    Flag("cpuset-mems", "string", "Memory nodes to use (0-3, 0,1)"),
    Flag("device", "list", "Give access to a device (host[:container][:rwm])"),
    Flag("device-cgroup-rule", "list", "Allow devices by number (c 1:3 rwm)", check=check_cgroup_rule),
    Flag("device-read-bps", "list", "Bytes a second to read from a device (path:rate)", check=check_bps),
    Flag("device-read-iops", "list", "Reads a second from a device (path:rate)", check=check_iops),
    Flag("device-write-bps", "list", "Bytes a second to write to a device (path:rate)", check=check_bps),
    Flag("device-write-iops", "list", "Writes a second to a device (path:rate)", check=check_iops),
    Flag("disable-content-trust", "bool", "Accepted; there is no content trust", default=True, hidden=True),
    Flag("dns", "list", "Name server to ask", check=check_ip),
    Flag("dns-opt", "list", "Option for resolv.conf", hidden=True),
    Flag("dns-option", "list", "Option for resolv.conf"),
    Flag("dns-search", "list", "Domain to search names in", check=check_dns_search),
    Flag("domainname", "string", "NIS domain name"),
    Flag("entrypoint", "string", "Command that the arguments are given to, in place of the image's"),
    Flag("env", "list", "Set a variable (A=1), or pass ours on (A)", short="e", check=check_env),
    Flag("env-file", "list", "Read variables from a file, one a line"),
    Flag("expose", "list", "Port, or range of ports, that the container listens on"),
    Flag("gpus", "gpu-request", "GPUs to give the container: all, or a number"),
    Flag("group-add", "list", "Join one more group"),
    Flag("health-cmd", "string", "Command whose success means healthy"),
    Flag("health-interval", "duration", "Time between two checks (ms|s|m|h)", shown_default="0s"),
    Flag("health-retries", "int", "Failures in a row that mean unhealthy"),
    Flag("health-start-interval", "duration", "Time between checks while starting (ms|s|m|h)", shown_default="0s"),
    Flag("health-start-period", "duration", "Time in which failures don't count (ms|s|m|h)", shown_default="0s"),
    Flag("health-timeout", "duration", "Time that a check may take (ms|s|m|h)", shown_default="0s"),
    Flag("help", "bool", "Print this text"),
    Flag("hostname", "string", "Host name in the container", short="h"),
    Flag("init", "bool", "Run a small init as PID 1, which reaps and forwards signals"),
    Flag("interactive", "bool", "Keep stdin open", short="i"),
    Flag("io-maxbandwidth", "bytes", "Windows only", hidden=True),
    Flag("io-maxiops", "uint", "Windows only", hidden=True),
    Flag("ip", "string", "IPv4 address to have (e.g. 172.30.100.104)"),
    Flag("ip6", "string", "IPv6 address to have (e.g. 2001:db8::33)"),
    Flag("ipc", "string", "IPC namespace: none, private, shareable, host or container:NAME"),
    Flag("isolation", "string", "Windows only", hidden=True),
    Flag("kernel-memory", "bytes", "Limit of kernel memory, for old kernels"),
    Flag("label", "list", "Set a label (name=value)", short="l", check=check_label),
    Flag("label-file", "list", "Read labels from a file, one a line"),
    Flag("link", "list", "Link to another container (name:alias)", check=check_link),
    Flag("link-local-ip", "list", "Link-local address to have", check=check_ip),
    Flag("log-driver", "string", "What to do with the output"),
    Flag("log-opt", "list", "Option of the log driver (name=value)"),
    Flag("mac-address", "string", "MAC address to have (e.g. 92:d0:c6:0a:29:33)"),
    Flag("memory", "bytes", "Memory to use at most", short="m"),
    Flag("memory-reservation", "bytes", "Memory to be squeezed to when it is scarce"),
    Flag("memory-swap", "swap-bytes", "Memory and swap together; -1 for no limit"),
    Flag("memory-swappiness", "int", "Readiness to swap, 0 to 100", default=-1, shown_default="-1"),
    Flag("mount", "mount", "Mount something (type=bind,src=/a,dst=/b,readonly)", check=check_mount),
    Flag("name", "string", "Name of the container"),
    Flag("net", "network", "Network to join", hidden=True, check=check_network),
    Flag("net-alias", "list", "Name on the network", hidden=True),
    Flag("network", "network", "Network to join", check=check_network),
    Flag("network-alias", "list", "One more name on the network"),
    Flag("no-healthcheck", "bool", "Don't check health, whatever the image says"),
    Flag("oom-kill-disable", "bool", "Let processes wait instead of killing them when memory is used up"),
    Flag("oom-score-adj", "int", "How willingly the kernel kills here, -1000 to 1000"),
    Flag("pid", "string", "PID namespace: host or container:NAME"),
    Flag("pids-limit", "int", "Processes to have at most; -1 for no limit"),
    Flag("platform", "string", "Platform of the image (os/arch/variant)"),
    Flag("privileged", "bool", "Give all that root on the host has"),
    Flag("publish", "list", "Publish a port ([[address:]port:]port[/protocol])", short="p"),
    Flag("publish-all", "bool", "Publish every exposed port, at any free one", short="P"),
    Flag("pull", "string", "When to pull: always, missing or never", default="missing", shown_default='"missing"'),
    Flag("quiet", "bool", "Pull without telling", short="q"),
    Flag("read-only", "bool", "Let nothing be written to the root file system"),
    Flag("restart", "string", "When to start again: no, always, unless-stopped, on-failure[:N]", default="no"),
    Flag("rm", "bool", "Remove the container, and its anonymous volumes, when it ends"),
    Flag("runtime", "string", "Exec driver to use"),
    Flag("security-opt", "list", "seccomp=FILE, apparmor=NAME, no-new-privileges, systempaths=unconfined"),
    Flag("shm-size", "bytes", "Size of /dev/shm"),
    Flag("stop-signal", "string", "Signal that asks the container to end"),
    Flag("stop-timeout", "int", "Seconds from that signal to SIGKILL"),
    Flag("storage-opt", "list", "Option of the graph driver (name=value)"),
    Flag("sysctl", "map", "Set a kernel parameter of the namespace (name=value)"),
    Flag("tmpfs", "list", "Mount a tmpfs (path[:options])"),
    Flag("tty", "bool", "Give the container a terminal", short="t"),
    Flag("ulimit", "ulimit", "Set a resource limit (name=soft[:hard])", check=check_ulimit),
    Flag("use-api-socket", "bool", "Not there yet", hidden=True),
    Flag("user", "string", "Who to be (name|uid[:group|gid])", short="u"),
    Flag("userns", "string", "User namespace: host"),
    Flag("uts", "string", "UTS namespace: host"),
    Flag("volume", "list", "Mount a folder or a volume ([source:]path[:options])", short="v"),
    Flag("volume-driver", "string", "Who makes the volumes"),
    Flag("volumes-from", "list", "Mount what another container mounts (name[:ro])"),
    Flag("workdir", "string", "Folder to start in", short="w"),
)

RUN_ONLY = (
    Flag("detach", "bool", "Don't wait for the container: print its ID and return", short="d"),
    Flag("detach-keys", "string", "Keys that leave the container running"),
    Flag("sig-proxy", "bool", "Hand signals on to the container", default=True, shown_default="true"),
)
