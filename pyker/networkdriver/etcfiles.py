"""What a container reads in /etc/hosts and /etc/resolv.conf. Pure: bytes in, bytes out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from pyker.errors import InvalidParameter

_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
"""What a container gets when the host has only name servers on its own loopback."""
NDOTS = "ndots:0"
RESOLV_CONF = "/etc/resolv.conf"
_SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"


def hosts_file(
    *,
    hostname: str = "",
    domainname: str = "",
    addresses: Iterable[str] = (),
    extra_hosts: Iterable[str] = (),
    host_gateway: str = "",
    links: Iterable[tuple[str, Sequence[str]]] = (),
    origin: bytes | None = None,
) -> bytes:
    """The container's hosts file.

    ``addresses`` are its own, on any network. ``extra_hosts`` are ``name:address`` (or ``name=address``) of --add-host;
    the address ``host-gateway`` means ``host_gateway``. ``links`` are (address, names) of --link. ``origin`` is the
    host's own file, for a container on the host's network: it replaces the standard lines.
    """
    lines = []
    if origin is None:
        lines = [f"{address}\t{names}" for address, names in _HOSTS]
    for entry in extra_hosts:
        name, address = split_extra_host(entry)
        if address == "host-gateway":
            if not host_gateway:
                raise InvalidParameter(
                    "unable to derive the IP value for host-gateway",
                    hint="the container's network has no gateway on this host",
                )
            address = host_gateway
        lines.append(f"{address}\t{name}")
    lines.extend(f"{address}\t{' '.join(dict.fromkeys(names))}" for address, names in links)
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    if hostname:
        lines.extend(f"{address}\t{names}" for address in addresses if address)
    text = "".join(line + "\n" for line in lines).encode()
    if origin is None:
        return text
    return origin + (b"" if not origin or origin.endswith(b"\n") else b"\n") + text


def split_extra_host(entry: str) -> tuple[str, str]:
    """``name:address`` of --add-host, checked. Raises InvalidParameter with the reference's words."""
    name, separator, address = entry.partition(":" if "=" not in entry.partition(":")[0] else "=")
    if not separator or not name:
        raise InvalidParameter(f"bad format for add-host: {entry!r}".replace("'", '"'))
    address = address.removeprefix("[").removesuffix("]")
    if address != "host-gateway":
        try:
            ip_address(address)
        except ValueError as error:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from error
    if any(character.isspace() for character in name):
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    return name, address


def resolv_conf(
    host: bytes,
    *,
    nameservers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    keep_loopback: bool = False,
    resolver: str = "",
) -> bytes:
    """The container's resolv.conf, from the host's one and --dns, --dns-search, --dns-option.

    Name servers on loopback cannot be reached from a namespace of its own, nor IPv6 ones from a network without IPv6,
    so they are left out, and public ones take the place of an empty list. ``keep_loopback`` is for containers on the
    host's network. A ``search`` of "." means none. ``resolver`` is the address of the container's own resolver, which
    asks the servers itself; there a name without a dot may be another container's, so it is asked for as it is, unless
    an option says otherwise.
    """
    lines = host.decode(errors="surrogateescape").splitlines()
    kept = [line for line in lines if _keyword(line) != "nameserver"]
    servers = [resolver] if resolver else list(nameservers)
    if not servers:
        found = [line.split()[1] for line in lines if _keyword(line) == "nameserver" and len(line.split()) > 1]
        servers = found if keep_loopback else [server for server in found if _reachable(server)]
        if not servers and not keep_loopback:
            servers = list(FALLBACK_NAMESERVERS)
    if search:
        kept = [line for line in kept if _keyword(line) not in ("search", "domain")]
    if resolver and not options:
        options = [word for line in kept if _keyword(line) == "options" for word in line.split()[1:]]
    if resolver and not any(option.startswith("ndots:") for option in options):
        options = [*options, NDOTS]
    if options:
        kept = [line for line in kept if _keyword(line) != "options"]
    if not (nameservers or search or options) and keep_loopback:
        return host
    result = []
    domains = [domain for domain in search if domain != "."]
    if domains:
        result.append("search " + " ".join(domains))
    result.extend(f"nameserver {server}" for server in servers)
    if options:
        result.append("options " + " ".join(options))
    # The host's other lines keep their order; blank ones at its end would pile up.
    text = "\n".join(kept).rstrip("\n")
    return ((text + "\n" if text else "") + "\n".join(result) + "\n").encode(errors="surrogateescape")


class HostServers:
    """The host's name servers as they are now: the files are read again when they were changed. For one thread."""

    def __init__(self) -> None:
        self._seen: object = None
        self._servers: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """All of them, in order."""
        seen = (_stamp(RESOLV_CONF), _stamp(_SYSTEMD_RESOLV_CONF))
        if seen != self._seen:
            lines = host_resolv_conf().decode(errors="replace").splitlines()
            self._servers = tuple(line.split()[1] for line in lines if _is_server(line))
            self._seen = seen
        return self._servers


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def host_resolv_conf() -> bytes:
    """The host's own resolv.conf; the real servers of systemd-resolved where /etc only names its stub; b"" if none."""
    content = _read(RESOLV_CONF)
    servers = [line.split()[1] for line in content.decode(errors="replace").splitlines() if _is_server(line)]
    if servers == ["127.0.0.53"] and os.path.exists(_SYSTEMD_RESOLV_CONF):
        return _read(_SYSTEMD_RESOLV_CONF)
    return content


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


def _keyword(line: str) -> str:
    words = line.split(maxsplit=1)
    return words[0] if words else ""


def _is_server(line: str) -> bool:
    return _keyword(line) == "nameserver" and len(line.split()) > 1


def _reachable(server: str) -> bool:
    """Whether a name server of the host can be asked from a network of its own that has IPv4 only."""
    try:
        address = ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback
