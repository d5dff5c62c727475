"""``info`` and ``version``, swarm's answers, plugins, and what is not there in any engine of one host."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from tests.support.asking import filters, get, message
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

INFO = {
    "ID", "Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "Driver",
    "DriverStatus", "Plugins", "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet",
    "PidsLimit", "IPv4Forwarding", "BridgeNfIptables", "BridgeNfIp6tables", "Debug", "NFd", "OomKillDisable",
    "NGoroutines", "SystemTime", "LoggingDriver", "CgroupDriver", "CgroupVersion", "NEventsListener", "KernelVersion",
    "OperatingSystem", "OSVersion", "OSType", "Architecture", "IndexServerAddress", "RegistryConfig", "NCPU",
    "MemTotal", "GenericResources", "DockerRootDir", "HttpProxy", "HttpsProxy", "NoProxy", "Name", "Labels",
    "ExperimentalBuild", "ServerVersion", "Runtimes", "DefaultRuntime", "Swarm", "LiveRestoreEnabled", "Isolation",
    "InitBinary", "ContainerdCommit", "RuncCommit", "InitCommit", "SecurityOptions", "Warnings",
}  # fmt: skip
NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


@pytest.mark.claim("GET /info", "rule-info-fields")
def test_info_has_every_field(engine: Engine) -> None:
    value = get(engine, "/v1.41/info")
    assert not INFO - set(value), INFO - set(value)
    assert value["IndexServerAddress"] == "https://index.docker.io/v1/"
    registries = value["RegistryConfig"]
    assert "127.0.0.0/8" in registries["InsecureRegistryCIDRs"]
    assert registries["IndexConfigs"]["docker.io"] == {
        "Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True,
    }  # fmt: skip
    assert value["Swarm"]["LocalNodeState"] == "inactive"
    assert value["Plugins"]["Volume"] == ["local"] and "bridge" in value["Plugins"]["Network"]
    assert "json-file" in value["Plugins"]["Log"]


@pytest.mark.claim("GET /info", "rule-info-fields")
def test_info_describes_this_machine(engine: Engine) -> None:
    value = get(engine, "/info")
    assert value["NCPU"] == os.cpu_count()
    assert value["MemTotal"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    system = os.uname()
    assert (value["KernelVersion"], value["Architecture"]) == (system.release, system.machine)
    assert value["DockerRootDir"] == str(engine.data_root) and value["OSType"] == "linux"
    assert "name=seccomp" in value["SecurityOptions"][0] or "name=seccomp" in str(value["SecurityOptions"])


@pytest.mark.claim("GET /info")
def test_the_engines_id_stays(engine: Engine) -> None:
    identity = get(engine, "/info")["ID"]
    assert identity and get(engine, "/info")["ID"] == identity
    assert re.fullmatch(r"(?:[A-Z2-7]{4}:){11}[A-Z2-7]{4}|[0-9a-f-]{36}", identity)


@pytest.mark.claim("GET /info")
def test_info_counts_images_and_running_containers(engine: Engine, busybox: str, name: str) -> None:
    before = get(engine, "/info")
    assert before["Images"] == len(get(engine, "/images/json?all=1"))
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "600", check=True)
    engine.docker("pause", name, check=True)
    paused = get(engine, "/info")
    assert paused["ContainersPaused"] == before["ContainersPaused"] + 1
    assert paused["ContainersRunning"] == before["ContainersRunning"]
    engine.docker("unpause", name, check=True)
    # News of the pause may reach the reference after that, and those of its end soon after.
    running = before["ContainersRunning"] + 1
    wait_until(lambda: get(engine, "/info")["ContainersRunning"] == running, what="one that runs more")


@pytest.mark.claim("GET /version", "rule-version-fields")
def test_version_has_components(engine: Engine) -> None:
    value = get(engine, "/version")
    assert (value["Os"], value["KernelVersion"]) == ("linux", os.uname().release)
    assert value["Arch"] in ("amd64", "arm64")
    first = value["Components"][0]
    assert first["Name"] == "Engine" and first["Version"] == value["Version"]
    assert {"ApiVersion", "Arch", "BuildTime", "Experimental", "GitCommit", "GoVersion", "KernelVersion",
            "MinAPIVersion", "Os"} <= set(first["Details"])  # fmt: skip
    for field in ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Arch", "Os"):
        assert first["Details"][field] == value[field]
    for component in value["Components"]:
        assert component["Version"] and isinstance(component.get("Details", {}), dict)


@pytest.mark.claim("GET /_ping", "HEAD /_ping")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_tells_builder_and_version(engine: Engine, method: str) -> None:
    headers = engine.request(method, "/_ping").headers
    assert headers.get("builder-version", "") in ("", "1", "2")
    assert headers["pragma"] == "no-cache" and headers["api-version"] == get(engine, "/version")["ApiVersion"]
    assert headers["content-type"].startswith("text/plain")


_SWARM = [
    ("GET", "/swarm"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/update?version=1"), ("POST", "/swarm/unlock"),
    *(("GET", f"/{kind}") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("GET", f"/{kind}/x") for kind in ("nodes", "services", "tasks", "secrets", "configs")),
    *(("POST", f"/{kind}/create") for kind in ("services", "secrets", "configs")),
    *(("POST", f"/{kind}/x/update?version=1") for kind in ("nodes", "services", "secrets", "configs")),
    *(("DELETE", f"/{kind}/x") for kind in ("nodes", "services", "secrets", "configs")),
]  # fmt: skip


@pytest.mark.claim("rule-no-swarm")
@pytest.mark.parametrize(("method", "path"), _SWARM, ids=[f"{method} {path}" for method, path in _SWARM])
def test_outside_a_swarm(engine: Engine, method: str, path: str) -> None:
    reply = engine.request(method, path, {} if method == "POST" else None)
    assert (reply.status, message(reply)) == (503, NO_SWARM)


@pytest.mark.claim("rule-no-swarm")
def test_leaving_a_swarm(engine: Engine) -> None:
    for query in ("", "?force=1"):
        reply = engine.request("POST", f"/swarm/leave{query}")
        assert (reply.status, message(reply)) == (503, "This node is not part of a swarm")


@pytest.mark.claim("rule-no-swarm")
def test_docker_node_ls(engine: Engine) -> None:
    done = engine.docker("node", "ls")
    assert (done.code, done.err.strip()) == (1, f"Error response from daemon: {NO_SWARM}")


@pytest.mark.claim("GET /plugins", "rule-plugins-none")
def test_no_plugins(engine: Engine) -> None:
    assert get(engine, "/plugins") == []
    assert get(engine, f"/plugins?{filters(capability=['volumedriver'])}") == []
    assert engine.docker("plugin", "ls", check=True).out.split() == ["ID", "NAME", "DESCRIPTION", "ENABLED"]
    reply = engine.request("GET", f"/plugins?{filters(bogus=['a'])}")
    assert (reply.status, message(reply)) == (400, "Invalid filter 'bogus'")


@pytest.mark.claim("rule-plugins-none")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/plugins/nosuch/json"),
        ("DELETE", "/plugins/nosuch"),
        ("POST", "/plugins/nosuch/enable?timeout=0"),
        ("POST", "/plugins/nosuch/disable"),
        ("POST", "/plugins/nosuch/push"),
    ],
)
def test_a_plugin_that_is_not_there(engine: Engine, method: str, path: str) -> None:
    reply = engine.request(method, path)
    assert (reply.status, message(reply)) == (404, 'plugin "nosuch" not found')


@pytest.mark.claim("POST /auth", "rule-auth")
def test_auth_of_a_registry_without_passwords(engine: Engine, busybox: str) -> None:
    body = {"username": "u", "password": "p", "serveraddress": busybox.partition("/")[0]}
    reply = engine.request("POST", "/auth", body)
    assert reply.status == 200 and reply.json() == {"Status": "Login Succeeded", "IdentityToken": ""}


@pytest.mark.claim("POST /auth", "rule-auth")
def test_auth_of_a_registry_that_does_not_answer(engine: Engine) -> None:
    reply = engine.request("POST", "/auth", {"username": "u", "password": "p", "serveraddress": "127.0.0.1:1"})
    assert reply.status == 500 and message(reply).endswith("connect: connection refused")


@pytest.mark.claim("POST /session")
def test_a_session_must_be_an_upgrade(engine: Engine) -> None:
    reply = engine.request("POST", "/session")
    assert reply.status == 400 and message(reply) == "no upgrade proto in request"


@pytest.mark.claim("POST /build/prune", "rule-prune")
def test_prune_of_an_empty_build_cache(engine: Engine) -> None:
    reply = engine.request("POST", "/build/prune")
    assert reply.status == 200 and reply.json() == {"CachesDeleted": None, "SpaceReclaimed": 0}
    reply = engine.request("POST", f"/build/prune?{filters(bogus=['a'])}")
    assert (reply.status, message(reply)) == (400, "failed to prune build cache: Invalid filter 'bogus'")
    done = engine.docker("builder", "prune", "-f")
    assert done.code == 0 and done.out.strip() == "Total reclaimed space: 0B", done


@pytest.mark.claim("POST /build/cancel")
def test_cancel_without_a_build(engine: Engine) -> None:
    for query in ("", "?id=", "?ID=x"):
        reply = engine.request("POST", f"/build/cancel{query}")
        assert (reply.status, message(reply)) == (500, "build ID not provided"), query


@pytest.mark.claim("POST /build/cancel")
def test_cancel_of_a_build_that_is_not_there(engine: Engine) -> None:
    """There is nothing to stop then, and that is no error."""
    reply = engine.request("POST", "/build/cancel?id=no-such-build")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"", "application/json")


@pytest.mark.claim("GET /system/df", "rule-disk-usage")
def test_disk_usage(engine: Engine, busybox: str, volume: str, name: str) -> None:
    engine.docker("volume", "create", volume, check=True)
    engine.docker(
        "run", "--name", name, "-v", f"{volume}:/v", busybox, "sh", "-c", "head -c 3000 /dev/zero >/v/f", check=True
    )
    value: Any = get(engine, "/v1.41/system/df")
    assert {"LayersSize", "Images", "Containers", "Volumes", "BuildCache", "BuilderSize"} <= set(value)
    image = next(row for row in value["Images"] if busybox in (row["RepoTags"] or ()))
    assert image["Containers"] >= 1 and image["SharedSize"] >= 0
    assert value["LayersSize"] >= image["Size"] > 1_000_000
    container = next(row for row in value["Containers"] if row["Names"] == [f"/{name}"])
    assert container["SizeRootFs"] >= image["Size"]
    found = next(row for row in value["Volumes"] if row["Name"] == volume)
    assert found["UsageData"] == {"RefCount": 1, "Size": 3000}


@pytest.mark.claim("GET /system/df", "rule-disk-usage", "shape-system-df")
@pytest.mark.requires("docker-cli-28")
def test_docker_system_df(engine: Engine, busybox: str) -> None:
    lines = engine.docker("system", "df", check=True).out.splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [line[:14].strip() for line in lines[1:]] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    verbose = engine.docker("system", "df", "-v", check=True).out
    assert "Images space usage:" in verbose and busybox.rpartition(":")[0] in verbose


@pytest.mark.claim("POST /containers/prune", "rule-prune")
@pytest.mark.requires("docker-cli-28")
def test_docker_system_prune(engine: Engine, busybox: str, network: str, name: str) -> None:
    """It takes what is stopped, what is unused and what has no name, one after another."""
    identity = engine.docker("create", "--name", name, busybox, check=True).out.strip()
    engine.docker("network", "create", network, check=True)
    out = engine.docker("system", "prune", "-f", check=True).out
    assert f"Deleted Containers:\n{identity}\n" in out and re.search(
        rf"^Deleted Networks:\n(\S+\n)*{network}\n", out, re.M
    )
    assert out.splitlines()[-1].startswith("Total reclaimed space: ")
    assert engine.request("GET", f"/containers/{name}/json").status == 404
