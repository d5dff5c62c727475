"""The files that a container gets from the engine: hostname, hosts and resolv.conf, in its own folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from pyker.container.record import Container
from pyker.daemon.create import network_name
from pyker.daemon.options import Options
from pyker.networkdriver.base import Sandbox
from pyker.networkdriver.dns import ADDRESS
from pyker.networkdriver.etcfiles import host_resolv_conf, hosts_file, resolv_conf
from pyker.types.config import HostConfig

_CHANGING = threading.Lock()
"""Held while a hosts file is read and written again: a container's own start, and that of others, may change it."""


def write_network_files(
    container: Container,
    folder: str,
    sandbox: Sandbox | None,
    options: Options,
    links: Sequence[tuple[str, Sequence[str]]] = (),
) -> Container:
    """Write the three files; returns the container with their paths. ``sandbox`` None: it shares another's.

    ``links`` are further lines for hosts: an address and its names.
    """
    host_config = container.host_config
    config = container.config
    on_host = network_name(host_config.network_mode) == "host"
    endpoints = [] if sandbox is None else list(sandbox.endpoints.values())
    addresses = [address for each in endpoints for address in (each.ip_address, each.global_ipv6_address) if address]
    gateway = next((each.gateway for each in endpoints if each.gateway), "")
    hosts = hosts_file(
        hostname=config.hostname,
        domainname=config.domainname,
        addresses=addresses,
        extra_hosts=host_config.extra_hosts or (),
        host_gateway="127.0.0.1" if on_host else gateway,
        links=links,
        origin=_host_file("/etc/hosts") if on_host else None,
    )
    resolver = _resolv_conf(host_config, options, embedded=any(each.dns_names for each in endpoints))
    paths = {name: os.path.join(folder, name) for name in ("hostname", "hosts", "resolv.conf")}
    _write(paths["hostname"], (config.hostname + "\n").encode())
    _write(paths["hosts"], hosts)
    _write(paths["resolv.conf"], resolver)
    return replace(
        container,
        hostname_path=paths["hostname"],
        hosts_path=paths["hosts"],
        resolv_conf_path=paths["resolv.conf"],
    )


def _resolv_conf(host_config: HostConfig, options: Options, *, embedded: bool) -> bytes:
    return resolv_conf(
        host_resolv_conf(),
        nameservers=host_config.dns or options.dns,
        search=host_config.dns_search or options.dns_search,
        options=host_config.dns_options or options.dns_opt,
        keep_loopback=network_name(host_config.network_mode) == "host",
        resolver=ADDRESS if embedded else "",
    )


def use_resolver(container: Container, options: Options) -> None:
    """Name the resolver of user networks in a running container's file, unless somebody has changed what is there."""
    if container.resolv_conf_path:
        before = _resolv_conf(container.host_config, options, embedded=False)
        if _host_file(container.resolv_conf_path) == before:
            _write(container.resolv_conf_path, _resolv_conf(container.host_config, options, embedded=True))


def share_network_files(container: Container, other: Container) -> Container:
    """A container that joins another's network sees the other's files, and its hostname."""
    return replace(
        container,
        config=replace(container.config, hostname=other.config.hostname, domainname=other.config.domainname),
        hostname_path=other.hostname_path,
        hosts_path=other.hosts_path,
        resolv_conf_path=other.resolv_conf_path,
    )


def note_address(container: Container, address: str) -> None:
    """One more address of a running container, in its hosts file as it is now."""
    config = container.config
    names = f"{config.hostname}.{config.domainname} {config.hostname}" if config.domainname else config.hostname
    if address and config.hostname:
        _change_hosts(container, lambda lines: [*lines, f"{address}\t{names}\n".encode()])


def forget_address(container: Container, address: str) -> None:
    """Take the lines of an address out of a running container's hosts file; all others stay."""
    if address:
        _change_hosts(container, lambda lines: [each for each in lines if each.split()[:1] != [address.encode()]])


def move_link(container: Container, alias: str, address: str) -> None:
    """What a running container calls ``alias`` has another address now; its other names stay as they are."""

    def moved(line: bytes) -> bytes:
        _, *names = line.split() or (b"",)
        return address.encode() + b"\t" + b" ".join(names) + b"\n" if names[:1] == [alias.encode()] else line

    _change_hosts(container, lambda lines: [moved(each) for each in lines])


def forget_link(container: Container, alias: str) -> None:
    """A running container knows ``alias`` no longer."""
    _change_hosts(container, lambda lines: [each for each in lines if each.split()[1:2] != [alias.encode()]])


def _change_hosts(container: Container, change: Callable[[list[bytes]], list[bytes]]) -> None:
    if container.hosts_path:
        with _CHANGING:
            lines = _host_file(container.hosts_path).splitlines(keepends=True)
            changed = change(lines)
            if changed != lines:
                _write(container.hosts_path, b"".join(changed))


def _host_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _write(path: str, content: bytes) -> None:
    """In place: a running container has the file itself mounted. A reader in it may see it half written, once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)
        file.write(content)
