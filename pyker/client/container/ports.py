"""Published and exposed ports: ``-p [[address:]port:]port[/protocol]``, single or in ranges.

Source: Docker API HostConfig.PortBindings; docker run, "publish".
"""

from __future__ import annotations

from pyker.client.container.flags import is_ip
from pyker.client.failure import Failure

PROTOCOLS = ("tcp", "udp", "sctp")


def split_protocol(text: str) -> tuple[str, str]:
    """``80/udp`` as (udp, 80); tcp unless said otherwise."""
    port, _, protocol = text.partition("/")
    return (protocol or "tcp", port) if port else ("", "")


def parse_range(text: str) -> tuple[int, int]:
    """``80`` or ``80-90``. Raises ValueError with docker's words."""
    if not text:
        raise ValueError("empty string specified for ports")
    first, dash, last = text.partition("-")
    start = _port(first)
    end = _port(last) if dash else start
    if end < start:
        raise ValueError(f"invalid range specified for port: {text}")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _plain_form(spec: str) -> str:
    """``published=8080,target=80,protocol=udp`` in the short form."""
    if "=" not in spec:
        return spec
    fields = {"protocol": "tcp"}
    for item in spec.split(","):
        name, equals, value = item.partition("=")
        if not equals or not value or name not in ("published", "target", "protocol", "mode"):
            raise Failure(f"invalid publish opts format (should be name=value but got '{item}')", 125)
        fields[name] = value
    if "target" not in fields:
        raise Failure(f"invalid publish opts format: no target in '{spec}'", 125)
    return f"{fields.get('published', '')}:{fields['target']}/{fields['protocol']}"


class Ports:
    """What a container exposes, and where it is published."""

    def __init__(self) -> None:
        self.exposed: dict[str, dict[str, str]] = {}
        self.bindings: dict[str, list[dict[str, str]]] = {}

    def publish(self, spec: str) -> None:
        """Add one ``-p``. Raises Failure."""
        plain = _plain_form(spec)
        parts = plain.split(":")
        protocol, inside = split_protocol(parts[-1])
        outside = parts[-2] if len(parts) > 1 else ""
        address = ":".join(parts[:-2])
        if address.startswith("["):
            if not address.endswith("]"):
                raise Failure(f"invalid IP address {address}: address {address}:: missing ']' in address", 125)
            address = address[1:-1]
        if address and not is_ip(address):
            raise Failure(f"invalid IP address: {address}", 125)
        if not inside:
            raise Failure(f"no port specified: {plain}<empty>", 125)
        try:
            first, last = parse_range(inside)
        except ValueError:
            raise Failure(f"invalid containerPort: {inside}", 125) from None
        try:
            host_first, host_last = parse_range(outside) if outside else (0, 0)
        except ValueError:
            raise Failure(f"invalid hostPort: {outside}", 125) from None
        if outside and last - first != host_last - host_first and first != last:
            raise Failure(f"invalid ranges specified for container and host Ports: {inside} and {outside}", 125)
        if protocol.lower() not in PROTOCOLS:
            raise Failure(f"invalid proto: {protocol}", 125)
        for offset in range(last - first + 1):
            port = str(host_first + offset) if outside else ""
            if first == last and host_first != host_last:
                port = f"{host_first}-{host_last}"
            key = f"{first + offset}/{protocol.lower()}"
            self.exposed[key] = {}
            self.bindings.setdefault(key, []).append({"HostIp": address, "HostPort": port})

    def expose(self, spec: str) -> None:
        """Add one ``--expose``. Raises Failure."""
        if ":" in spec:
            raise Failure(f"invalid port format for --expose: {spec}", 125)
        protocol, ports = split_protocol(spec)
        try:
            first, last = parse_range(ports)
        except ValueError as error:
            raise Failure(f"invalid range format for --expose: {spec}, error: {error}", 125) from None
        for port in range(first, last + 1):
            self.exposed.setdefault(f"{port}/{protocol}", {})
