"""Rules for every endpoint: versions, headers, unknown paths, and the shapes of version and info."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engines import Engine


@pytest.mark.claim("GET /_ping", "rule-ping-headers", "daemon-serves")
def test_ping_answers_with_its_headers(engine: Engine) -> None:
    reply = engine.request("GET", "/_ping")
    assert (reply.status, reply.body) == (200, b"OK")
    assert reply.headers["ostype"] == "linux"
    assert reply.headers["docker-experimental"] == "false"
    assert reply.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert "api-version" in reply.headers


@pytest.mark.claim("HEAD /_ping", "rule-ping-headers")
def test_head_ping_has_no_body(engine: Engine) -> None:
    reply = engine.request("HEAD", "/_ping")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


@pytest.mark.claim(
    "rule-unknown-route", "server-finds-item", "server-route-item", "summary-router-judges-method", "break-status-words"
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nosuch"), ("POST", "/containers/json"), ("GET", "/v1.41/nosuch")]
)
def test_unknown_path_or_method_is_404(engine: Engine, method: str, path: str) -> None:
    reply = engine.request(method, path)
    assert (reply.status, reply.json()) == (404, {"message": "page not found"})
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.claim("rule-version-too-new")
def test_version_that_is_too_new(engine: Engine) -> None:
    reply = engine.request("GET", "/v1.99/version")
    value: Any = reply.json()
    assert reply.status == 400
    assert value["message"].startswith("client version 1.99 is too new. Maximum supported API version is 1.")


@pytest.mark.claim("rule-version-too-old")
def test_version_that_is_too_old(engine: Engine) -> None:
    reply = engine.request("GET", "/v1.1/version")
    assert reply.status == 400
    assert b"client version 1.1 is too old. Minimum supported API version is 1." in reply.body
    assert b"please upgrade your client to a newer version" in reply.body


@pytest.mark.claim("rule-headers", "rule-path-versions")
def test_headers_on_every_reply(engine: Engine) -> None:
    for path in ("/v1.41/version", "/v1.41/containers/json", "/v1.41/containers/nosuch/json"):
        headers = engine.request("GET", path).headers
        assert headers["ostype"] == "linux" and headers["docker-experimental"] == "false"
        assert headers["server"].startswith("Docker/") and headers["server"].endswith("(linux)")
        assert headers["api-version"].startswith("1.")


@pytest.mark.claim("rule-no-swarm")
def test_swarm_is_503(engine: Engine) -> None:
    reply = engine.request("GET", "/nodes")
    value: Any = reply.json()
    assert reply.status == 503 and value["message"].startswith("This node is not a swarm manager.")


@pytest.mark.claim("GET /plugins", "rule-plugins-none")
def test_plugins_are_none(engine: Engine) -> None:
    reply = engine.request("GET", "/plugins")
    assert (reply.status, reply.json()) == (200, [])


@pytest.mark.claim("GET /version", "rule-version-fields")
def test_version_has_what_clients_read(engine: Engine) -> None:
    value: Any = engine.request("GET", "/version").json()
    assert {"Platform", "Components", "Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch",
            "KernelVersion", "BuildTime"} <= set(value)  # fmt: skip
    assert value["Components"][0]["Name"] == "Engine"


@pytest.mark.claim("overview-client-and-server", "overview-two-ends", "shape-version")
def test_docker_version_prints_both_ends(engine: Engine) -> None:
    out = engine.docker("version", check=True).out
    assert "Server" in out and " Engine:" in out and "API version:" in out


@pytest.mark.claim("info-root-dir", "info-storage-driver", "shape-info", "GET /info")
def test_docker_info_prints_the_documents_lines(engine: Engine) -> None:
    out = engine.docker("info", check=True).out
    assert " Storage Driver: overlay2\n" in out
    assert f" Docker Root Dir: {engine.data_root}\n" in out
    assert "  Network: bridge host" in out and " Swarm: inactive" in out
    assert "   Profile: " in out and " OSType: linux" in out


@pytest.mark.claim("GET /info", "engine-keeps-containers")
def test_info_counts_containers(engine: Engine, busybox: str, name: str) -> None:
    before: Any = engine.request("GET", "/info").json()
    engine.docker("create", "--name", name, busybox, check=True)
    after: Any = engine.request("GET", "/info").json()
    assert after["Containers"] == before["Containers"] + 1
    assert after["ContainersStopped"] == before["ContainersStopped"] + 1


@pytest.mark.claim("GET /networks", "rule-network-predefined")
def test_networks_has_the_three(engine: Engine) -> None:
    value: Any = engine.request("GET", "/networks").json()
    found = {(row["Name"], row["Driver"]) for row in value}
    assert {("bridge", "bridge"), ("host", "host"), ("none", "null")} <= found
    bridge = next(row for row in value if row["Name"] == "bridge")
    assert bridge["IPAM"]["Config"][0]["Subnet"].endswith("/16")


@pytest.mark.claim("shape-tables", "GET /networks")
def test_network_ls(engine: Engine) -> None:
    lines = engine.docker("network", "ls", check=True).out.splitlines()
    assert lines[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    assert {tuple(line.split()[1:]) for line in lines[1:]} >= {
        ("bridge", "bridge", "local"),
        ("host", "host", "local"),
        ("none", "null", "local"),
    }


@pytest.mark.claim("GET /containers/{id}/json", "rule-null-and-empty")
def test_inspect_has_the_shape_that_clients_read(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "60", check=True)
    value: Any = engine.inspect(name)
    assert {"Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath",
            "Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs",
            "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"} <= set(value)  # fmt: skip
    assert value["Name"] == f"/{name}" and value["Mounts"] == [] and value["ExecIDs"] is None
    assert value["Driver"] == value["GraphDriver"]["Name"] == "overlay2"
    assert {"LowerDir", "MergedDir", "UpperDir", "WorkDir"} == set(value["GraphDriver"]["Data"])
    assert value["Path"] == "sleep" and value["Args"] == ["60"]
    assert value["Image"].startswith("sha256:") and value["Config"]["Image"] == busybox
    assert set(value["State"]) >= {"Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "Pid", "ExitCode",
                                   "Error", "StartedAt", "FinishedAt"}  # fmt: skip


@pytest.mark.claim("accept-docker-cli")
def test_inspect_falls_through_every_kind(engine: Engine) -> None:
    done = engine.docker("inspect", "nosuchthing")
    assert done.code == 1 and done.out == "[]\n"
    assert "no such object: nosuchthing" in done.err.lower()
