"""What the daemon's options say about registries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyker import __version__
from pyker.errors import InvalidParameter
from pyker.types.reference import DEFAULT_DOMAIN

HUB_HOST = "registry-1.docker.io"
"""Where the names under ``docker.io`` are really kept."""

_LOOPBACK = ("127.0.0.0/8", "::1/128")
_HOST = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig:
    """Options of the registry client. Times are seconds.

    ``insecure_registries`` are ``host[:port]`` or CIDR; loopback always counts. ``mirrors`` are URLs that stand in for
    Docker Hub, or ``registry=url`` for another registry's. ``local`` maps a domain to a function that gives the URL of
    a registry inside this process (and starts it); it is called at the first use of the domain. ``stall_timeout_s``
    is how long a transfer may bring no byte.
    """

    insecure_registries: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_dir: str = "/etc/docker/certs.d"
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_attempts: int = 5
    connect_timeout_s: float = 15.0
    stall_timeout_s: float = 60.0
    user_agent: str = f"docker/20.10.24 os/linux pyker/{__version__}"
    local: Mapping[str, Callable[[], str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise InvalidParameter if a mirror or an insecure registry is not written as one."""
        for mirror in self.mirrors:
            check_mirror(mirror)
        for entry in self.insecure_registries:
            check_insecure_registry(entry)

    def insecure(self, host: str) -> bool:
        """True if ``host`` (``name[:port]``) may be spoken to without TLS, or with a certificate nobody vouches for.

        A name counts by the addresses it resolves to only if it is ``localhost``: looking others up here would cost a
        DNS query for each pull.
        """
        if host in self.insecure_registries:
            return True
        import ipaddress

        name = host_name(host)
        if name == "localhost":
            return True
        if name in self.insecure_registries:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        for entry in (*_LOOPBACK, *self.insecure_registries):
            if "/" not in entry:
                continue
            network = ipaddress.ip_network(entry, strict=False)
            if address.version == network.version and address in network:
                return True
        return False

    def mirrors_of(self, domain: str) -> tuple[str, ...]:
        """The URLs to ask before the registry itself, without a slash at the end."""
        found = []
        for entry in self.mirrors:
            registry, url = split_mirror(entry)
            if registry == domain:
                found.append(url.rstrip("/"))
        return tuple(found)


def is_loopback(name: str) -> bool:
    """True if ``name`` (without a port) is this machine."""
    import ipaddress

    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """``host`` without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") <= 1 else host


def split_mirror(entry: str) -> tuple[str, str]:
    """``registry=url`` or ``url``: the registry's domain (``docker.io`` if left out) and the mirror's URL."""
    head, equals, tail = entry.partition("=")
    if equals and "://" not in head:
        return head, tail
    return DEFAULT_DOMAIN, entry


def check_mirror(entry: str) -> str:
    """Return ``entry`` if it is a mirror that ``--registry-mirror`` takes. Raises InvalidParameter."""
    _registry, url = split_mirror(entry)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise InvalidParameter(f'invalid mirror: unsupported scheme "{scheme if separator else ""}" in "{entry}"')
    if "@" in rest:
        raise InvalidParameter('invalid mirror: username/password not allowed in URI "{}"'.format(url.split("@")[-1]))
    if "?" in rest or "#" in rest:
        raise InvalidParameter(f'invalid mirror: query or fragment at end of the URI "{entry}"')
    host = rest.partition("/")[0]
    if not _HOST.fullmatch(host):
        raise InvalidParameter(f'invalid mirror: "{entry}" is not a valid URI')
    return entry


def check_insecure_registry(entry: str) -> str:
    """Return ``entry`` if ``--insecure-registry`` takes it: ``host[:port]`` or a CIDR. Raises InvalidParameter."""
    if "://" in entry:
        raise InvalidParameter(f"insecure registry {entry} should not contain '://'")
    import ipaddress

    if "/" in entry:
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise InvalidParameter(f"insecure registry {entry} is not valid: it is neither a host nor a CIDR") from None
        return entry
    if not _HOST.fullmatch(entry):
        raise InvalidParameter(f'insecure registry {entry} is not valid: invalid host "{entry}"')
    _, colon, port = entry.rpartition(":")
    if colon and not entry.endswith("]") and not 0 < int(port) < 65536:
        raise InvalidParameter(f'insecure registry {entry} is not valid: invalid port "{port}"')
    return entry
