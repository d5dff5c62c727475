"""``/networks/...``."""

from __future__ import annotations

from msgspec import field

from pyker.api import filters
from pyker.api.codec import Decoder
from pyker.errors import InvalidParameter, NotSupported
from pyker.jobs.networks import (
    ConnectNetwork,
    CreateNetwork,
    DisconnectNetwork,
    InspectNetwork,
    ListNetworks,
    PruneNetworks,
    RemoveNetwork,
)
from pyker.networkdriver.base import IpamPool
from pyker.server.call import Call
from pyker.server.render.networks import network
from pyker.server.reply import Reply, json_reply
from pyker.server.router import Route
from pyker.types.config import EndpointSettings, Wire


class PoolRequest(Wire, frozen=True):
    """One element of ``IPAM.Config``."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    aux_addresses: dict[str, str] | None = field(default=None, name="AuxiliaryAddresses")


class IpamRequest(Wire, frozen=True):
    """Who gives addresses, and out of what."""

    driver: str = ""
    options: dict[str, str] | None = None
    config: tuple[PoolRequest, ...] | None = None


class NetworkRequest(Wire, frozen=True):
    """The body of ``POST /networks/create``."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    enable_ipv6: bool = field(default=False, name="EnableIPv6")
    ipam: IpamRequest | None = field(default=None, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Connection(Wire, frozen=True):
    """The body of ``POST /networks/{id}/connect`` and ``.../disconnect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None
    force: bool = False


# What this one parameter may be, unlike every other flag; what a swarm would add to the answer is not there.
_GO_BOOLEANS = ("", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")

_connection = Decoder(Connection, name="NetworkConnect")
_request = Decoder(NetworkRequest, name="NetworkCreateRequest")


def create(call: Call) -> Reply:
    given = call.json(_request)
    if not given.name.strip():
        raise InvalidParameter(f"invalid name: {given.name}")
    if given.ingress or given.config_only or given.scope == "swarm":
        raise NotSupported("networks of a swarm are not there in Pyker")
    ipam = given.ipam or IpamRequest()
    pools = tuple(
        IpamPool(
            subnet=pool.subnet, ip_range=pool.ip_range, gateway=pool.gateway, aux_addresses=pool.aux_addresses or {}
        )
        for pool in ipam.config or ()
    )
    network_id = call.run(
        CreateNetwork(
            network_name=given.name,
            driver=given.driver or "bridge",
            internal=given.internal,
            attachable=given.attachable,
            enable_ipv6=given.enable_ipv6,
            ipam_driver=ipam.driver or "default",
            ipam_options=ipam.options,
            pools=pools,
            options=given.options or {},
            labels=given.labels or {},
        )
    )
    return json_reply({"Id": network_id, "Warning": ""}, 201)


def remove(call: Call) -> Reply:
    call.run(RemoveNetwork(network=call["name"]))
    return Reply(204)


def connect(call: Call) -> Reply:
    given = call.json(_connection)
    endpoint = given.endpoint_config or EndpointSettings()
    call.run(ConnectNetwork(network=call["name"], container=given.container, endpoint=endpoint))
    return Reply(200)


def disconnect(call: Call) -> Reply:
    given = call.json(_connection)
    call.run(DisconnectNetwork(network=call["name"], container=given.container, force=given.force))
    return Reply(200)


def prune(call: Call) -> Reply:
    done = call.run(PruneNetworks(filters=call.filters(filters.NETWORK_PRUNE)))
    return json_reply({"NetworksDeleted": list(done) or None})


def list_all(call: Call) -> Reply:
    views = call.run(ListNetworks(filters=call.filters(filters.NETWORKS)))
    return json_reply([network(view, with_containers=False) for view in views])


def inspect(call: Call) -> Reply:
    verbose = call.text("verbose")
    if verbose not in _GO_BOOLEANS:
        words = f'strconv.ParseBool: parsing "{verbose}": invalid syntax'
        raise InvalidParameter(f"invalid value for verbose: {verbose}: {words}")
    view = call.run(InspectNetwork(network=call["name"], scope=call.text("scope")))
    return json_reply(network(view, with_containers=True))


ROUTES = [
    Route("GET", "/networks", list_all),
    Route("GET", "/networks/", list_all),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("POST", "/networks/{name:.*}/connect", connect),
    Route("POST", "/networks/{name:.*}/disconnect", disconnect),
    Route("GET", "/networks/{name:.*}", inspect),
    Route("DELETE", "/networks/{name:.*}", remove),
]
