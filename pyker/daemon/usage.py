"""``pyker daemon --help``."""

from __future__ import annotations

from dataclasses import fields

from pyker.daemon.options import SHORT, Options

_SHOWN = {"int": " int", "str": " string", "tuple[str, ...]": " list", "dict[str, str]": " map"}
_HELP = {
    "host": "Where to listen: unix://path, tcp://address:port or fd:// (default unix:///run/pyker.sock)",
    "data-root": "Folder of images, containers and volumes (default /var/lib/pyker)",
    "exec-root": "Folder of what lives as long as the machine runs (default /run/pyker)",
    "pidfile": "File for the daemon's pid (default /run/pyker.pid)",
    "storage-driver": "Graphdriver: overlay2, btrfs or vfs; also by PYKER_DRIVER or DOCKER_DRIVER",
    "exec-driver": "Execdriver (default native)",
    "bridge": "Attach containers to this bridge; none: no default network",
    "bip": "Address of the default bridge, as CIDR",
    "mtu": "MTU of the containers' interfaces (default 1500)",
    "tls": "Use TLS; implied by --tlsverify",
    "tlsverify": "Use TLS and demand a certificate of clients",
    "tlscacert": "Trust clients whose certificate this CA signed",
    "tlscert": "The daemon's certificate",
    "tlskey": "The daemon's key",
    "insecure-registry": "Registry (host[:port] or CIDR) that may be spoken to without trusted TLS",
    "registry-mirror": "URL of a mirror of Docker Hub, or registry=url",
    "debug": "Log everything",
    "log-level": "debug, info, warn, error or fatal (default info)",
    "label": "Label of this daemon, key=value",
    "group": "Group that may use the unix socket (default docker)",
    "config-file": "JSON file with options (default /etc/pyker/daemon.json)",
    "default-ulimit": "Limit for all containers, name=soft[:hard]",
    "dns": "Name server for containers",
    "dns-search": "Search domain for containers",
    "dns-opt": "Resolver option for containers",
    "icc": "Let containers on the default network talk to each other (default true)",
    "ip": "Host address on which ports are published by default (default 0.0.0.0)",
    "ip-masq": "Masquerade what containers send (default true)",
    "ip-forward": "Switch the kernel's forwarding on (default true)",
    "iptables": "Write firewall rules, in a table of our own (default true)",
    "userland-proxy": "Serve published ports on loopback (default true)",
    "userns-remap": "User whose subordinate IDs containers have: default, USER[:GROUP] or UID[:GID]",
    "max-concurrent-downloads": "Layers fetched at once in one pull (default 3)",
    "max-concurrent-uploads": "Layers sent at once in one push (default 5)",
    "max-download-attempts": "Tries for each layer (default 5)",
    "live-restore": "Accepted; containers always outlive the daemon",
    "log-driver": "Log driver of containers: json-file or none (default json-file)",
    "log-opt": "Option of the log driver, key=value",
    "cgroup-parent": "Parent cgroup of all containers (default /pyker)",
    "shutdown-timeout": "Seconds that jobs get to end at shutdown (default 15)",
    "no-embedded-registry": "Do not serve pyker.local/hello and its like",
    "default-shm-size": "Size of /dev/shm in containers (default 64m)",
    "experimental": "Say that this daemon is experimental",
    "validate": "Check the options and exit",
    "help": "Print this and exit",
}


def usage() -> str:
    """The text of ``pyker daemon --help``."""
    shorts = {name: letter for letter, name in SHORT.items()}
    rows = []
    for each in sorted(fields(Options), key=lambda item: item.name):
        name = each.name.replace("_", "-")
        if name == "embedded-registry":
            name = "no-embedded-registry"
        short = f"-{shorts[name]}, " if name in shorts else "    "
        rows.append((f"  {short}--{name}{_SHOWN.get(str(each.type), '')}", _HELP[name]))
    width = max(len(flag) for flag, _ in rows)
    lines = "".join(f"{flag:<{width}}   {text}\n" for flag, text in sorted(rows, key=lambda row: row[0].lstrip(" -")))
    return (
        "Usage: pyker daemon [OPTIONS]\n\nThe engine: serves the Docker API and runs containers. Containers go on "
        "running when it ends, and the\nnext daemon finds them again.\n\nOptions:\n" + lines
    )
