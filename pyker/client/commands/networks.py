"""``pyker network``: create, connect, disconnect, ls, rm, prune. Source: Docker API /networks/..."""

from __future__ import annotations

import contextlib

from pyker.client import units
from pyker.client.command import Command
from pyker.client.confirm import confirmed
from pyker.client.failure import DaemonFailure, Failure
from pyker.client.filters import encode_filters
from pyker.client.flags import Flag
from pyker.client.pruning import prune, tell
from pyker.client.table import render
from pyker.client.transport import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyker.client.flags import Options
    from pyker.client.surroundings import Surroundings

HEADERS = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}


def _create(around: Surroundings, options: Options) -> int:
    from pyker.client.container.environment import as_map

    body: dict[str, Any] = {"Driver": options.text("driver"), "Scope": options.text("scope")}
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if options.given(flag):
            body[field] = options.on(flag)
    body["IPAM"] = {
        "Driver": options.text("ipam-driver"),
        "Options": as_map(options.items("ipam-opt")),
        "Config": _pools(options),
    }
    source = options.text("config-from")
    body |= {
        "Internal": options.on("internal"),
        "Attachable": options.on("attachable"),
        "Ingress": options.on("ingress"),
        "ConfigOnly": options.on("config-only"),
        "ConfigFrom": {"Network": source} if source else None,
        "Options": as_map(options.items("opt")),
        "Labels": as_map(options.items("label")),
        "Name": options.arguments[0],
    }
    around.out(str(around.client.json("POST", "/networks/create", body=body)["Id"]))
    return 0


def _pools(options: Options) -> list[dict[str, Any]]:
    """Each subnet with what belongs to it. Raises Failure in the reference client's words."""
    from ipaddress import ip_address, ip_network

    from pyker.client.container.environment import as_map

    subnets, ranges, gateways = options.items("subnet"), options.items("ip-range"), options.items("gateway")
    if len(ranges) > len(subnets) or len(gateways) > len(subnets):
        raise Failure("every ip-range or gateway must have a corresponding subnet")
    pools: dict[str, dict[str, Any]] = {}
    known: dict[str, Any] = {}
    for subnet in subnets:
        try:
            network = ip_network(subnet, strict=False)
        except ValueError:
            # What is no subnet is for the daemon to refuse.
            network = None
        if network is not None and any(other.overlaps(network) for other in known.values() if _alike(other, network)):
            raise Failure("multiple overlapping subnet configuration is not supported")
        pools[subnet] = {"Subnet": subnet}
        if network is not None:
            known[subnet] = network

    def owner(address: str, what: str) -> dict[str, Any]:
        try:
            wanted = ip_address(address.partition("/")[0])
        except ValueError:
            wanted = None
        for subnet, network in known.items():
            if wanted is not None and wanted in network:
                return pools[subnet]
        raise Failure(f"no matching subnet for {what} {address}")

    for text in ranges:
        pool = owner(text, "range")
        if "IPRange" in pool:
            raise Failure(
                f"cannot configure multiple ranges ({text}, {pool['IPRange']}) on the same subnet ({pool['Subnet']})"
            )
        pool["IPRange"] = text
    for text in gateways:
        pool = owner(text, "gateway")
        if "Gateway" in pool:
            raise Failure(
                f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet ({pool['Subnet']})"
            )
        pool["Gateway"] = text
    for name, address in as_map(options.items("aux-address")).items():
        owner(address, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = address
    return [pools[subnet] for subnet in sorted(pools)]


def _alike(one: Any, other: Any) -> bool:
    return bool(one.version == other.version)


def _connect(around: Surroundings, options: Options) -> int:
    from pyker.client.container.networks import Attachment

    network, container = options.arguments
    asked = Attachment(network)
    asked.aliases, asked.links = options.items("alias"), options.items("link")
    asked.ipv4, asked.ipv6, asked.link_local = options.text("ip"), options.text("ip6"), options.items("link-local-ip")
    asked.gateway_priority = options.number("gw-priority")
    for text in options.items("driver-opt"):
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise Failure("invalid key/value pair format in driver options")
        asked.options[name] = value
    # Where a run says nothing, docker's connect says that there is nothing.
    endpoint = asked.settings()
    endpoint |= {"IPAMConfig": endpoint["IPAMConfig"] or {}, "Aliases": asked.aliases, "DriverOpts": asked.options}
    body = {"Container": container, "EndpointConfig": endpoint}
    around.client.call("POST", f"/networks/{quote_path(network)}/connect", body=body)
    return 0


def _disconnect(around: Surroundings, options: Options) -> int:
    network, container = options.arguments
    body = {"Container": container, "Force": options.on("force")}
    around.client.call("POST", f"/networks/{quote_path(network)}/disconnect", body=body)
    return 0


def _remove(around: Surroundings, options: Options) -> int:
    failed = False
    for name in options.arguments:
        path = f"/networks/{quote_path(name)}"
        # What is wrong with it, the removal says.
        with contextlib.suppress(DaemonFailure):
            if around.client.json("GET", path).get("Ingress") and not confirmed(around, _INGRESS):
                continue
        try:
            around.client.call("DELETE", path)
        except DaemonFailure as failure:
            if failure.status == 404 and options.on("force"):
                continue
            around.err(failure.message)
            failed = True
            continue
        around.out(name)
    if failed:
        around.err("exit status 1")
    return 1 if failed else 0


_INGRESS = (
    "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm run the same docker "
    "engine version. Otherwise, removal may not be effective and functionality of newly create ingress networks "
    "will be impaired.\nAre you sure you want to continue?"
)


def _prune(around: Surroundings, options: Options) -> int:
    answer = prune(around, options, "networks", "all custom networks not used by at least one container")
    if answer is not None:
        tell(around, "Deleted Networks:", answer.get("NetworksDeleted") or [])
    return 0


def _list(around: Surroundings, options: Options) -> int:
    query = {"filters": encoded} if (encoded := encode_filters(options.items("filter"))) else {}
    template = options.text("format") or ("" if options.on("quiet") else around.config.text("networksFormat"))
    rows = []
    for item in around.client.json("GET", "/networks", query) or []:
        labels = item.get("Labels") or {}
        identifier = item.get("Id") or ""
        rows.append(
            {
                "CreatedAt": units.utc_time(item.get("Created") or ""),
                "Driver": item.get("Driver") or "",
                "ID": identifier if options.on("no-trunc") else identifier[:12],
                "IPv4": "true" if item.get("EnableIPv4", False) else "false",
                "IPv6": "true" if item.get("EnableIPv6") else "false",
                "Internal": "true" if item.get("Internal") else "false",
                "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
                "Name": item.get("Name") or "",
                "Scope": item.get("Scope") or "",
            }
        )
    rows.sort(key=lambda row: _natural(row["Name"]))
    columns = ("ID", "Name", "Driver", "Scope")
    around.write(
        render(rows, headers=HEADERS, columns=columns, template=template, quiet_field="ID", quiet=options.on("quiet"))
    )
    return 0


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that puts n2 before n10."""
    parts: list[tuple[int, int, str]] = []
    digits = letters = ""
    for character in name + "\0":
        if character.isascii() and character.isdigit():
            digits += character
            if letters:
                parts.append((1, 0, letters))
                letters = ""
            continue
        if digits:
            parts.append((0, int(digits), digits))
            digits = ""
        letters += character
    parts.append((1, 0, letters.rstrip("\0")))
    return parts


COMMANDS = {
    "network ls": Command(
        _list,
        "",
        flags=(
            Flag("filter", "filter", 'Only what matches, such as "driver=bridge"', short="f"),
            Flag("format", "string", "How to print: table, 'table TEMPLATE', json, or a Go template"),
            Flag("no-trunc", "bool", "Print everything in full"),
            Flag("quiet", "bool", "Print IDs alone", short="q"),
        ),
        most=0,
        aliases=("network ls", "network list"),
    ),
    "network create": Command(
        _create,
        "NETWORK",
        flags=(
            Flag("attachable", "bool", "Let containers be attached by hand"),
            Flag("aux-address", "map", "Addresses that the driver uses, by name"),
            Flag("config-from", "string", "The network whose configuration to take"),
            Flag("config-only", "bool", "Only a configuration for other networks"),
            Flag("driver", "string", "Which driver makes it", short="d", default="bridge"),
            Flag("gateway", "strings", "Gateway of a subnet"),
            Flag("ingress", "bool", "A swarm's routing mesh"),
            Flag("internal", "bool", "No way out of it"),
            Flag("ip-range", "strings", "Give out addresses of this part of a subnet"),
            Flag("ipam-driver", "string", "Who gives out addresses", default="default"),
            Flag("ipam-opt", "map", "Options for who gives out addresses"),
            Flag("ipv4", "bool", "Give out IPv4 addresses", default=True, shown_default="true"),
            Flag("ipv6", "bool", "Give out IPv6 addresses"),
            Flag("label", "list", "Name and value to set on the network"),
            Flag("opt", "map", "Option for the driver, such as parent=eth0", short="o"),
            Flag("scope", "string", "How far it reaches"),
            Flag("subnet", "strings", "Addresses, as in 10.1.0.0/16"),
        ),
        least=1,
        most=1,
    ),
    "network connect": Command(
        _connect,
        "NETWORK CONTAINER",
        flags=(
            Flag("alias", "strings", "One more name of the container on the network"),
            Flag("driver-opt", "strings", "Option for the driver, as name=value"),
            Flag("gw-priority", "int", "The network with the highest has the default gateway"),
            Flag("ip", "string", "IPv4 address, such as 10.1.0.5"),
            Flag("ip6", "string", "IPv6 address, such as fd00::5"),
            Flag("link", "list", "Another container, under a name of its own: container:alias"),
            Flag("link-local-ip", "strings", "Link-local address"),
        ),
        least=2,
        most=2,
    ),
    "network disconnect": Command(
        _disconnect,
        "NETWORK CONTAINER",
        flags=(Flag("force", "bool", "Also where the network is gone", short="f"),),
        least=2,
        most=2,
    ),
    "network rm": Command(
        _remove,
        "NETWORK [NETWORK...]",
        flags=(Flag("force", "bool", "A network that is not there is no error", short="f"),),
        least=1,
        aliases=("network rm", "network remove"),
        tells_of_options=False,
    ),
    "network prune": Command(
        _prune,
        "",
        flags=(
            Flag("filter", "filter", 'Only what matches, such as "until=24h"'),
            Flag("force", "bool", "Do not ask", short="f"),
        ),
        most=0,
    ),
}
