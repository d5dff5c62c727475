"""Where to ask for a domain's images: its mirrors first, then the registry, by TLS before plain HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from pyker.registry.config import HUB_HOST, RegistryConfig
from pyker.types.reference import DEFAULT_DOMAIN


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One base URL, without ``/v2/`` and without a slash at the end. ``mirror``: any failure goes on to the next."""

    url: str
    mirror: bool = False

    @property
    def host(self) -> str:
        """``name[:port]``."""
        return self.url.partition("://")[2].partition("/")[0]

    @property
    def scheme(self) -> str:
        """https or http."""
        return self.url.partition("://")[0]


def pull_endpoints(domain: str, config: RegistryConfig) -> tuple[Endpoint, ...]:
    """The places to pull from, best first."""
    mirrors = tuple(Endpoint(url, mirror=True) for url in config.mirrors_of(domain))
    return mirrors + push_endpoints(domain, config)


def push_endpoints(domain: str, config: RegistryConfig) -> tuple[Endpoint, ...]:
    """The places to push to, best first; never a mirror."""
    local = config.local.get(domain)
    if local is not None:
        return (Endpoint(local()),)
    if domain == DEFAULT_DOMAIN:
        return (Endpoint(f"https://{HUB_HOST}"),)
    secure = Endpoint(f"https://{domain}")
    if config.insecure(domain):
        return (secure, Endpoint(f"http://{domain}"))
    return (secure,)
