"""What inspect, ps and the filters say: modes by ID, hidden paths, what is left of a network after the end."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.engines import Engine

pytestmark = pytest.mark.requires("root", "overlay", "busybox", "docker-cli")


def settings(engine: Engine, container: str) -> dict[str, Any]:
    found = engine.inspect(container)["NetworkSettings"]
    assert isinstance(found, dict)
    return found


def host_config(engine: Engine, container: str) -> dict[str, Any]:
    found = engine.inspect(container)["HostConfig"]
    assert isinstance(found, dict)
    return found


@pytest.mark.claim("GET /containers/{id}/json", "rule-network-ports", "break-ports")
def test_a_stopped_container_has_no_addresses_and_no_ports(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-p", "8000", busybox, "sleep", "1000", check=True)
    running = settings(engine, name)
    assert running["IPAddress"] and running["Ports"]["8000/tcp"] and running["Networks"]["bridge"]["EndpointID"]
    engine.docker("stop", "-t", "0", name, check=True)
    stopped = settings(engine, name)
    assert stopped["Ports"] == {}
    assert stopped["SandboxID"] == running["SandboxID"]
    endpoint = stopped["Networks"]["bridge"]
    assert endpoint["NetworkID"] == running["Networks"]["bridge"]["NetworkID"]
    for place in (stopped, endpoint):
        assert [place[key] for key in ("EndpointID", "Gateway", "IPAddress", "MacAddress")] == [""] * 4
        assert place["IPPrefixLen"] == 0
    filters = quote(json.dumps({"name": [name]}))
    rows = engine.request("GET", f"/containers/json?all=1&filters={filters}").json()
    assert isinstance(rows, list)
    assert rows[0]["Ports"] == []
    engine.docker("start", name, check=True)
    again = settings(engine, name)
    assert again["IPAddress"] and again["Ports"]["8000/tcp"]


@pytest.mark.claim("rule-network-connect", "netlink-configures")
def test_the_mac_address_that_was_asked_for_stays(engine: Engine, busybox: str, name: str) -> None:
    mac = "02:42:12:34:56:78"
    body = {"Image": busybox, "Cmd": ["sleep", "1000"], "MacAddress": mac}
    assert engine.request("POST", f"/v1.41/containers/create?name={name}", body).status == 201
    engine.docker("start", name, check=True)
    engine.docker("restart", "-t", "0", name, check=True)
    assert settings(engine, name)["MacAddress"] == mac
    shown = engine.docker("exec", name, "cat", "/sys/class/net/eth0/address", check=True)
    assert shown.out.strip() == mac


@pytest.mark.claim("rule-namespace-modes", "rule-network-share")
def test_other_containers_are_kept_by_id(engine: Engine, busybox: str, name: str) -> None:
    other = f"{name}-other"
    identifier = engine.docker("create", "--name", other, "--ipc", "shareable", busybox, check=True).out.strip()
    try:
        joined = [f"--{what}=container:{other}" for what in ("network", "pid", "ipc")]
        engine.docker("create", "--name", name, *joined, busybox, "true", check=True)
        engine.docker("rename", other, f"{other}-renamed", check=True)
        shown = host_config(engine, name)
        modes = [shown[key] for key in ("NetworkMode", "PidMode", "IpcMode")]
        assert modes == [f"container:{identifier}"] * 3
    finally:
        engine.request("DELETE", f"/containers/{identifier}?force=1")


@pytest.mark.claim("rule-create-validation", "rule-namespace-modes")
@pytest.mark.parametrize("flag", ["--pid", "--ipc"])
def test_a_container_to_join_must_exist(engine: Engine, busybox: str, name: str, flag: str) -> None:
    done = engine.docker("create", "--name", name, flag, "container:no-such", busybox, "true")
    assert (done.code, done.err) == (1, "Error response from daemon: No such container: no-such\n")
    assert engine.request("GET", f"/containers/{name}/json").status == 404


@pytest.mark.claim("rule-masked-paths")
def test_hidden_paths_are_shown_unless_privileged(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, busybox, "true", check=True)
    shown = host_config(engine, name)
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(shown["MaskedPaths"])
    assert set(shown["ReadonlyPaths"]) == {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
    engine.request("DELETE", f"/containers/{name}")
    engine.docker("create", "--name", name, "--privileged", busybox, "true", check=True)
    shown = host_config(engine, name)
    assert (shown["MaskedPaths"], shown["ReadonlyPaths"]) == (None, None)


@pytest.mark.claim("rule-filters-unknown")
@pytest.mark.parametrize(
    ("path", "filters", "message"),
    [
        ("/images/json", {"dangling": ["bogus"]}, "Invalid filter 'dangling=[bogus]'"),
        ("/images/json", {"bogus": ["x"]}, "Invalid filter 'bogus'"),
        ("/containers/json", {"is-task": ["bogus"]}, "Invalid filter 'is-task=[bogus]'"),
        ("/containers/json", {"exited": ["bogus"]}, 'strconv.Atoi: parsing "bogus": invalid syntax'),
        ("/containers/json", {"health": ["bogus"]}, "Unrecognised filter value for health: bogus"),
        (
            "/containers/json",
            {"publish": ["bogus"]},
            'error while looking up for publish bogus: strconv.ParseUint: parsing "bogus": invalid syntax',
        ),
        ("/networks", {"type": ["bogus"]}, "invalid filter: 'type'='bogus'"),
        (
            "/networks",
            {"dangling": ["bogus"]},
            """invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")""",
        ),
    ],
)
def test_filters_that_cannot_be(engine: Engine, path: str, filters: dict[str, list[str]], message: str) -> None:
    reply = engine.request("GET", f"{path}?filters={quote(json.dumps(filters))}")
    assert reply.json() == {"message": message}
    assert 400 <= reply.status < 600


@pytest.mark.claim("rule-filters-logic", "rule-booleans-in-query")
def test_one_filter_value_that_means_yes_is_enough(engine: Engine, busybox: str) -> None:
    def found(*values: str) -> set[str]:
        rows = engine.request("GET", f"/images/json?filters={quote(json.dumps({'dangling': values}))}").json()
        assert isinstance(rows, list)
        return {row["Id"] for row in rows}

    assert found("bogus", "true") == found("true")
    image = engine.request("GET", f"/images/{busybox}/json").json()
    assert isinstance(image, dict) and image["Id"] in found("false") - found("true")


@pytest.mark.claim("GET /info", "rule-info-fields", "libcontainer-cgroups")
@pytest.mark.requires("docker-cli-28")
def test_info_tells_which_limits_can_be_set(engine: Engine) -> None:
    info = engine.request("GET", "/info").json()
    assert isinstance(info, dict)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = file.read()
    assert info["CgroupVersion"] == ("1" if " - cgroup cgroup " in mounts else "2")
    for key in ("MemoryLimit", "PidsLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet"):
        assert info[key] is True, key
