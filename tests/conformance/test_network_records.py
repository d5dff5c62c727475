"""Networks as they are listed, inspected, made and removed, and what is refused in which words."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from tests.support.asking import filters, get, message, post
from tests.support.engines import Engine
from tests.support.traffic import addresses, ipv4, links

FIELDS = {"Name", "Id", "Created", "Scope", "Driver", "EnableIPv6", "IPAM", "Internal", "Attachable", "Ingress",
          "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels"}  # fmt: skip


def _names(engine: Engine, query: str) -> set[str]:
    return {row["Name"] for row in get(engine, f"/networks?{query}")}


def _refused(engine: Engine, body: dict[str, Any], *statuses: int) -> str:
    before = _names(engine, "")
    reply = engine.request("POST", "/networks/create", body)
    assert reply.status in statuses, reply
    assert _names(engine, "") == before
    return message(reply)


@pytest.mark.claim("GET /networks", "rule-network-predefined")
def test_three_networks_are_always_there(engine: Engine) -> None:
    rows = {row["Name"]: row for row in get(engine, "/networks")}
    assert {name: rows[name]["Driver"] for name in ("bridge", "host", "none")} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    for row in rows.values():
        assert set(row) >= FIELDS and row["Scope"] == "local", row
        assert re.fullmatch(r"[0-9a-f]{64}", row["Id"])
        datetime.fromisoformat(row["Created"])


@pytest.mark.claim("GET /networks", "rule-network-inspect")
def test_the_list_has_no_containers(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "600", check=True)
    assert not any(row["Containers"] for row in get(engine, "/networks"))


@pytest.mark.claim("GET /networks/{id}", "rule-network-inspect")
def test_inspect_lists_running_containers(engine: Engine, busybox: str, network: str, name: str) -> None:
    post(engine, "/networks/create", {"Name": network}, status=201)
    assert get(engine, f"/networks/{network}")["Containers"] == {}
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    container: Any = engine.inspect(name)
    value = get(engine, f"/networks/{network}")
    assert set(value["Containers"]) == {container["Id"]}
    row = value["Containers"][container["Id"]]
    endpoint = container["NetworkSettings"]["Networks"][network]
    assert row == {
        "Name": name,
        "EndpointID": endpoint["EndpointID"],
        "MacAddress": links(engine, name)["eth0"]["address"],
        "IPv4Address": ipv4(engine, name),
        "IPv6Address": "",
    }
    assert endpoint["NetworkID"] == value["Id"]
    engine.docker("kill", name, check=True)
    assert get(engine, f"/networks/{network}")["Containers"] == {}


@pytest.mark.claim("GET /networks/{id}")
def test_inspect_by_id_and_by_a_prefix(engine: Engine, network: str) -> None:
    identity = post(engine, "/networks/create", {"Name": network}, status=201)["Id"]
    for word in (network, identity, identity[:12]):
        assert get(engine, f"/networks/{word}")["Id"] == identity
    assert set(get(engine, f"/networks/{network}")) >= FIELDS


@pytest.mark.claim("GET /networks/{id}")
@pytest.mark.parametrize(("query", "words"), [("", "nosuch"), ("?scope=swarm", "bridge")])
def test_inspect_of_what_is_not_there(engine: Engine, query: str, words: str) -> None:
    reply = engine.request("GET", f"/networks/{words}{query}")
    assert (reply.status, message(reply)) == (404, f"network {words} not found")


@pytest.mark.claim("GET /networks/{id}")
def test_inspect_with_a_bad_flag(engine: Engine) -> None:
    reply = engine.request("GET", "/networks/bridge?verbose=bogus")
    assert reply.status == 400 and message(reply).startswith("invalid value for verbose: bogus")


@pytest.mark.claim("GET /networks", "rule-filters-names", "rule-filters-logic")
def test_filters_of_the_list(engine: Engine, network: str) -> None:
    identity = post(engine, "/networks/create", {"Name": network, "Labels": {"a": "b"}}, status=201)["Id"]
    assert _names(engine, filters(name=[network])) >= {network}
    assert _names(engine, filters(name=["^" + network + "$"])) in ({network}, set())
    assert _names(engine, filters(id=[identity[:20]])) == {network}
    assert _names(engine, filters(label=["a"])) == {network}
    assert _names(engine, filters(label=["a=c"])) == set()
    assert network in _names(engine, filters(driver=["bridge"])) and "host" not in _names(
        engine, filters(driver=["bridge"])
    )
    assert _names(engine, filters(driver=["host", "null"])) == {"host", "none"}
    assert network in _names(engine, filters(type=["custom"])) and "bridge" not in _names(
        engine, filters(type=["custom"])
    )
    assert {"bridge", "host", "none"} == _names(engine, filters(type=["builtin"]))
    assert network in _names(engine, filters(dangling=["true"]))
    assert network not in _names(engine, filters(dangling=["false"]))
    assert _names(engine, filters(scope=["swarm"])) == set()


@pytest.mark.claim("GET /networks", "rule-filters-unknown")
@pytest.mark.parametrize(
    ("query", "statuses", "words"),
    [
        (filters(bogus=["a"]), (400,), "Invalid filter 'bogus'"),
        (filters(type=["a"]), (400, 500), "invalid filter: 'type'='a'"),
        (
            filters(dangling=["a"]),
            (400,),
            """invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")""",
        ),
    ],
    ids=["key", "type", "dangling"],
)
def test_filters_that_networks_do_not_have(engine: Engine, query: str, statuses: tuple[int, ...], words: str) -> None:
    reply = engine.request("GET", f"/networks?{query}")
    assert reply.status in statuses and message(reply) == words


@pytest.mark.claim("POST /networks/create", "rule-network-create")
def test_create_answers_the_id_and_makes_a_bridge(engine: Engine, network: str) -> None:
    body = {"Name": network, "CheckDuplicate": True, "Labels": {"x": "y"}}
    value = post(engine, "/networks/create", body, status=201)
    assert set(value) == {"Id", "Warning"} and value["Warning"] == ""
    found = get(engine, f"/networks/{network}")
    assert (found["Id"], found["Driver"], found["Internal"]) == (value["Id"], "bridge", False)
    assert found["Labels"] == {"x": "y"} and found["Options"] == {}
    (pool,) = found["IPAM"]["Config"]
    bridge = links(engine)[f"br-{value['Id'][:12]}"]
    assert bridge["linkinfo"]["info_kind"] == "bridge"
    prefix = pool["Subnet"].partition("/")[2]
    assert f"{pool['Gateway']}/{prefix}" in [f"{row['local']}/{row['prefixlen']}" for row in bridge["addr_info"]]


@pytest.mark.claim("POST /networks/create", "rule-network-create")
def test_a_name_in_use(engine: Engine, network: str) -> None:
    post(engine, "/networks/create", {"Name": network}, status=201)
    body = {"Name": network, "CheckDuplicate": True}
    assert _refused(engine, body, 409) == f"network with name {network} already exists"


@pytest.mark.claim("POST /networks/create", "rule-network-create", "rule-network-predefined")
@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_predefined_names(engine: Engine, name: str) -> None:
    words = _refused(engine, {"Name": name, "CheckDuplicate": True}, 403)
    assert words == f"operation is not permitted on predefined {name} network "


@pytest.mark.claim("POST /networks/create", "rule-network-create")
@pytest.mark.parametrize(
    ("body", "statuses", "words"),
    [
        ({"Name": ""}, (400, 500), "invalid name: "),
        ({"Driver": "host"}, (403,), 'only one instance of "host" network is allowed'),
        ({"Driver": "null"}, (403,), 'only one instance of "null" network is allowed'),
        (
            {"IPAM": {"Config": [{"Subnet": "172.17.0.0/24"}]}},
            (400, 403),
            "Pool overlaps with other one on this address space",
        ),
        (
            {"IPAM": {"Config": [{"Subnet": "bogus"}]}},
            (400, 500),
            "Invalid subnet bogus : invalid CIDR address: bogus",
        ),
        ({"IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.8.0.1"}]}}, (400, 500), None),
    ],
    ids=["empty", "host", "null", "overlap", "subnet", "gateway"],
)
def test_networks_that_cannot_be(
    engine: Engine, network: str, body: dict[str, Any], statuses: tuple[int, ...], words: str | None
) -> None:
    said = _refused(engine, {"Name": network, **body}, *statuses)
    assert said == words or (words is None and said)


@pytest.mark.claim("POST /networks/create", "rule-network-create")
def test_an_unknown_driver(engine: Engine, network: str) -> None:
    """The reference engine looks for a plugin of that name for fifteen seconds."""
    assert _refused(engine, {"Name": network, "Driver": "nosuch"}, 404) == 'plugin "nosuch" not found'


@pytest.mark.claim("POST /networks/create", "rule-content-type")
def test_bodies_that_cannot_be_read(engine: Engine) -> None:
    kind = {"Content-Type": "text/plain"}
    reply = engine.request("POST", "/networks/create", b'{"Name":"x1"}', headers=kind)
    assert reply.status in (400, 415) and "must be 'application/json'" in message(reply)
    kind = {"Content-Type": "application/json"}
    reply = engine.request("POST", "/networks/create", b'{"Name":', headers=kind)
    assert (reply.status, message(reply)) == (400, "unexpected EOF")


@pytest.mark.claim("DELETE /networks/{id}", "rule-network-create")
def test_delete_takes_the_bridge_and_the_addresses(engine: Engine, network: str) -> None:
    body = {"Name": network, "IPAM": {"Config": [{"Subnet": "10.91.0.0/24"}]}}
    identity = post(engine, "/networks/create", body, status=201)["Id"]
    reply = engine.request("DELETE", f"/networks/{network}")
    assert (reply.status, reply.body) == (204, b"")
    assert f"br-{identity[:12]}" not in links(engine)
    assert engine.request("DELETE", f"/networks/{network}").status == 404
    again = post(engine, "/networks/create", body, status=201)["Id"]
    assert again != identity


@pytest.mark.claim("DELETE /networks/{id}", "rule-network-predefined")
@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_predefined_networks_stay(engine: Engine, name: str) -> None:
    reply = engine.request("DELETE", f"/networks/{name}")
    assert (reply.status, message(reply)) == (403, f"{name} is a pre-defined network and cannot be removed")


@pytest.mark.claim("DELETE /networks/{id}")
def test_delete_of_a_network_in_use(engine: Engine, busybox: str, network: str, name: str) -> None:
    identity = post(engine, "/networks/create", {"Name": network}, status=201)["Id"]
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    reply = engine.request("DELETE", f"/networks/{network}")
    words = f"error while removing network: network {network} id {identity} has active endpoints"
    assert (reply.status, message(reply)) == (403, words)
    assert addresses(engine, name)[network]


@pytest.mark.claim("DELETE /networks/{id}")
def test_delete_of_what_is_not_there(engine: Engine) -> None:
    reply = engine.request("DELETE", "/networks/nosuch")
    assert (reply.status, message(reply)) == (404, "network nosuch not found")


@pytest.mark.claim("GET /networks")
@pytest.mark.requires("docker-cli-28")
def test_docker_network_commands(engine: Engine, network: str) -> None:
    made = engine.docker("network", "create", "--label", "a=b", network, check=True).out.strip()
    out = engine.docker("network", "ls", "--no-trunc", check=True).out
    assert re.search(rf"^{made} +{network} +bridge +local$", out, re.M), out
    template = "{{.Name}} {{.Driver}} {{.Labels.a}}"
    assert engine.docker("network", "inspect", "-f", template, network, check=True).out == f"{network} bridge b\n"
    assert engine.docker("network", "rm", network, check=True).out == f"{network}\n"
    gone = engine.docker("network", "inspect", network)
    assert (gone.code, gone.out) == (1, "[]\n") and f"network {network} not found" in gone.err


@pytest.mark.claim("POST /networks/prune", "rule-prune")
def test_prune_takes_what_nobody_uses(engine: Engine, busybox: str, network: str, name: str) -> None:
    post(engine, "/networks/prune")
    engine.docker("network", "create", network, check=True)
    engine.docker("run", "-d", "--name", name, "--network", network, busybox, "sleep", "600", check=True)
    assert post(engine, "/networks/prune") == {"NetworksDeleted": None}
    engine.docker("rm", "-f", name, check=True)
    assert post(engine, "/networks/prune") == {"NetworksDeleted": [network]}
    assert {"bridge", "host", "none"} <= _names(engine, "")


@pytest.mark.claim("POST /networks/prune", "rule-prune")
@pytest.mark.parametrize(
    ("query", "stays"),
    [
        (filters(label=["a=c"]), True),
        (filters(label=["a=b"]), False),
        (filters(label_=["a"]), True),
        (filters(until=["1h"]), True),
    ],
    ids=["other-label", "label", "label!", "until"],
)
def test_filters_of_prune(engine: Engine, network: str, query: str, stays: bool) -> None:
    post(engine, "/networks/create", {"Name": network, "Labels": {"a": "b"}}, status=201)
    value = post(engine, f"/networks/prune?{query}")
    assert (network in (value["NetworksDeleted"] or [])) is not stays
    assert (network in _names(engine, "")) is stays


@pytest.mark.claim("POST /networks/prune", "rule-filters-unknown")
def test_filters_that_prune_does_not_have(engine: Engine) -> None:
    reply = engine.request("POST", f"/networks/prune?{filters(bogus=['a'])}")
    assert (reply.status, message(reply)) == (400, "Invalid filter 'bogus'")
