"""``--network`` and its companions, as EndpointsConfig.

Source: Docker API POST /containers/create, NetworkingConfig.
"""

from __future__ import annotations

from pyker.client.failure import Failure
from pyker.client.flags import BadValue, parse_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options

PREDEFINED = ("default", "bridge", "host", "none")


class Attachment:
    """One network that a container is to join, with what was asked for there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.link_local: list[str] = []
        self.options: dict[str, str] = {}
        self.ipv4 = self.ipv6 = self.mac = ""
        self.gateway_priority = 0

    @property
    def user_defined(self) -> bool:
        return self.name not in PREDEFINED and not self.name.startswith("container:")

    def settings(self) -> dict[str, Any]:
        """The endpoint as the API wants it."""
        addresses: dict[str, Any] = {}
        if self.ipv4:
            addresses["IPv4Address"] = self.ipv4
        if self.ipv6:
            addresses["IPv6Address"] = self.ipv6
        if self.link_local:
            addresses["LinkLocalIPs"] = self.link_local
        return {
            "IPAMConfig": addresses or None,
            "Links": self.links or None,
            "Aliases": self.aliases or None,
            "MacAddress": self.mac,
            "DriverOpts": self.options or None,
            "GwPriority": self.gateway_priority,
            "NetworkID": "",
            "EndpointID": "",
            "Gateway": "",
            "IPAddress": "",
            "IPPrefixLen": 0,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": None,
        }

    @property
    def plain(self) -> bool:
        """Whether nothing was asked for but the network itself."""
        return not (
            self.aliases
            or self.links
            or self.link_local
            or self.options
            or self.ipv4
            or self.ipv6
            or self.mac
            or self.gateway_priority
        )


def parse_network(text: str) -> Attachment:
    """One ``--network``: a name, or ``name=x,alias=y,ip=…``. Raises BadValue."""
    if not _is_long(text):
        return Attachment(text)
    from pyker.client.container.mounts import split_csv

    attachment = Attachment("")
    for field in split_csv(text):
        name, equals, value = field.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not equals or not name:
            raise BadValue(f"invalid field {field}")
        match name:
            case "name":
                attachment.name = value
            case "alias":
                attachment.aliases.append(value.lower())
            case "ip":
                attachment.ipv4 = value
            case "ip6":
                attachment.ipv6 = value
            case "mac-address":
                attachment.mac = value
            case "link-local-ip":
                attachment.link_local.append(value)
            case "driver-opt":
                key, inner, content = value.partition("=")
                if not inner or not key:
                    raise BadValue(f"invalid value {value!r} for driver-opt: should be a key=value pair")
                attachment.options[key.lower()] = content.lower()
            case "gw-priority":
                attachment.gateway_priority = parse_integer(value, signed=True, bits=64)
            case _:
                raise BadValue(f"invalid field key {name}")
    if not attachment.name:
        raise BadValue("network name/id is not specified")
    return attachment


def _is_long(text: str) -> bool:
    """Whether there is a ``key=value`` in it, with a letter, digit or ``_`` on both sides of the sign."""
    marks = [index for index, character in enumerate(text) if character == "="]
    around = [text[index - 1 : index] + text[index + 1 : index + 2] for index in marks if index]
    return any(len(pair) == 2 and pair.replace("_", "a").isalnum() for pair in around)


def attachments(options: Options) -> list[Attachment]:
    """The networks that the flags name; the first takes what ``--ip``, ``--network-alias`` and the like say."""
    found = [parse_network(text) for text in options.items("network") + options.items("net")]
    chosen = found or [Attachment("default")]
    first = chosen[0]
    aliases = options.items("network-alias") + options.items("net-alias")
    clashes = (
        (aliases and first.aliases, "network-alias", "alias"),
        (options.text("ip") and first.ipv4, "ip", "IPv4 address"),
        (options.text("ip6") and first.ipv6, "ip6", "IPv6 address"),
        (options.text("mac-address") and first.mac, "mac-address", "MAC address"),
        (options.items("link-local-ip") and first.link_local, "link-local-ip", "link-local IP addresses"),
    )
    for clash, flag, what in clashes:
        if clash:
            raise Failure(f"conflicting options: cannot specify both --{flag} and per-network {what}", 125)
    first.aliases = first.aliases or aliases
    first.links = options.items("link") if first.user_defined else []
    first.ipv4 = first.ipv4 or options.text("ip")
    first.ipv6 = first.ipv6 or options.text("ip6")
    first.mac = first.mac or options.text("mac-address")
    first.link_local = first.link_local or options.items("link-local-ip")
    for attachment in chosen:
        if not attachment.name.strip():
            raise Failure("no name set for network", 125)
        check_mac(attachment.mac)
        if not attachment.user_defined and attachment.aliases:
            raise Failure("network-scoped aliases are only supported for user-defined networks", 125)
    if len({attachment.user_defined for attachment in chosen}) > 1:
        raise Failure("conflicting options: cannot attach both user-defined and non-user-defined network-modes", 125)
    return chosen


def endpoints(chosen: list[Attachment], *, given: bool) -> dict[str, Any]:
    """EndpointsConfig. A single network without wishes is left to NetworkMode, as docker does."""
    if given and len(chosen) == 1 and chosen[0].plain:
        return {}
    found: dict[str, Any] = {}
    for attachment in chosen:
        if attachment.name in found:
            raise Failure(f'network "{attachment.name}" is specified multiple times', 125)
        found[attachment.name] = attachment.settings()
    return found


def check_mac(text: str) -> None:
    """Six, eight or twenty octets with ``:`` or ``-`` between them. Raises Failure."""
    if not text:
        return
    parts = text.strip().replace("-", ":").split(":")
    good = len(parts) in (6, 8, 20) and all(len(part) == 2 and _is_hex(part) for part in parts)
    if not good:
        raise Failure(f"{text} is not a valid mac address", 125)


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)
