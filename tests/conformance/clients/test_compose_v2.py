"""Compose v2, a plugin in Go: it speaks the newest version that the engine has."""

from __future__ import annotations

import json

import pytest

from tests.conformance.clients.conftest import Project
from tests.support.engines import Engine, remove_cgroups
from tests.support.sandbox import wait_until

pytestmark = [pytest.mark.claim("client-compose-v2"), pytest.mark.requires("apt")]

COMPOSE = ()
ALONE = """
services:
  app:
    image: {image}
    command: sh -c "echo started; exec sleep 600"
    network_mode: none
    stop_grace_period: 0s
    environment: {{WORD: said}}
"""
TOGETHER = """
services:
  app:
    image: {image}
    command: sleep 600
    depends_on: [store]
    stop_grace_period: 0s
  store:
    image: {image}
    command: sh -c "echo kept > /data/x; exec sleep 600"
    stop_grace_period: 0s
    volumes: ["data:/data"]
volumes: {{data: {{}}}}
"""


def rows(project: Project) -> list[dict[str, str]]:
    """``compose ps``, one object a line."""
    return [json.loads(line) for line in project("ps", "-a", "--format", "json").out.splitlines()]


def test_one_service_comes_up_and_goes(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d")
    (row,) = rows(project)
    assert (row["Name"], row["Service"], row["State"]) == (f"{project.name}-app-1", "app", "running")
    wait_until(lambda: "started" in project("logs", "--no-color").out, what="its first word")
    project("down")
    assert rows(project) == []


def test_exec_and_run(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d")
    assert project("exec", "-T", "app", "sh", "-c", "echo $WORD").out == "said\n"
    assert project("exec", "-T", "app", "sh", "-c", "exit 5", check=False).code == 5
    assert project("run", "--rm", "-T", "app", "echo", "once").out == "once\n"


def test_up_in_the_foreground_ends_with_its_service(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox).replace("exec sleep 600", "exit 6"))
    done = project("up", "--no-color", "--exit-code-from", "app", check=False)
    assert done.code == 6 and "started" in done.out


def test_a_changed_service_is_made_anew(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d")
    before = project("ps", "-q").out
    project("up", "-d")
    assert project("ps", "-q").out == before
    project.write(ALONE.format(image=busybox).replace("said", "other"))
    assert "Recreate" in project("up", "-d").err
    assert project("ps", "-q").out != before
    assert project("exec", "-T", "app", "sh", "-c", "echo $WORD").out == "other\n"


def test_stop_start_restart_and_kill(engine: Engine, project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d")
    container = project("ps", "-q").out.strip()
    project("stop")
    assert engine.state(container)["Status"] == "exited"
    project("start")
    project("restart", "-t", "0")
    assert engine.state(container)["Status"] == "running"
    project("pause")
    assert engine.state(container)["Status"] == "paused"
    project("unpause")
    project("kill")
    assert engine.state(container)["ExitCode"] == 137


def test_scale_and_top(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d", "--scale", "app=2")
    assert sorted(row["Name"] for row in rows(project)) == [f"{project.name}-app-1", f"{project.name}-app-2"]
    assert project("top").out.count("sleep 600") == 2


def test_a_missing_image(project: Project) -> None:
    project.write(ALONE.format(image="127.0.0.1:5000/never/there:1"))
    done = project("up", "-d", check=False)
    assert done.code != 0 and "manifest for 127.0.0.1:5000/never/there:1 not found" in done.err


@pytest.mark.claim("GET /networks/{id}", "POST /networks/create", "DELETE /networks/{id}")
def test_a_project_has_a_network_of_its_own(engine: Engine, project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox).replace("    network_mode: none\n", '    ports: ["80"]\n'))
    project("up", "-d")
    name = f"{project.name}_default"
    assert engine.docker("network", "inspect", "-f", "{{.Name}}", name).out == f"{name}\n"
    (row,) = rows(project)
    assert row["Publishers"][0]["TargetPort"] == 80  # type: ignore[index]
    project("down")
    assert engine.docker("network", "inspect", name).code == 1


@pytest.mark.claim("POST /volumes/create", "GET /volumes/{name}", "DELETE /volumes/{name}")
def test_services_find_each_other_and_keep_their_files(engine: Engine, project: Project, busybox: str) -> None:
    project.write(TOGETHER.format(image=busybox))
    project("up", "-d")
    assert "store" in project("exec", "-T", "app", "ping", "-c1", "store").out
    wait_until(lambda: project("exec", "-T", "store", "test", "-s", "/data/x", check=False).code == 0, what="the file")
    project("rm", "-s", "-f", "store")
    assert project("run", "--rm", "-T", "store", "cat", "/data/x").out == "kept\n"
    project("down", "-v")
    assert engine.docker("volume", "inspect", f"{project.name}_data").code == 1


def test_up_waits_for_health(project: Project, busybox: str) -> None:
    health = '    healthcheck: {test: ["CMD", "test", "-e", "/tmp/ready"], interval: 200ms, retries: 100}\n'
    text = ALONE.format(image=busybox).replace("echo started;", "sleep 1; touch /tmp/ready;")
    project.write(text + health)
    project("up", "-d", "--wait")
    assert [row["Health"] for row in rows(project)] == ["healthy"]


@pytest.mark.claim("PUT /containers/{id}/archive", "GET /containers/{id}/archive")
def test_cp(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox))
    project("up", "-d")
    project("cp", str(project.add("word", "copied\n")), "app:/tmp/word")
    assert project("exec", "-T", "app", "cat", "/tmp/word").out == "copied\n"


@pytest.mark.claim("POST /build")
@pytest.mark.parametrize(
    "builder",
    [
        pytest.param("0", id="classic"),
        pytest.param("1", id="buildkit", marks=pytest.mark.claim("rule-buildkit", "POST /grpc", "POST /session")),
    ],
)
def test_build(engine: Engine, project: Project, busybox: str, builder: str) -> None:
    """BuildKit's client is part of compose: it asks /grpc for the build, and offers its files and names at /session."""
    project.environment["DOCKER_BUILDKIT"] = builder
    project.add("Dockerfile", f"FROM {busybox}\nRUN echo built > /word\nCMD cat /word\n")
    project.write("services:\n  app:\n    build: .\n    network_mode: none\n")
    project("build")
    assert project("run", "--rm", "-T", "app").out == "built\n"
    project("down", "--rmi", "all")
    engine.request("POST", "/build/prune?all=1")
    if builder == "1":
        # The parent of its steps' cgroups stays, empty, until the daemon ends.
        remove_cgroups(f"{engine.cgroup_parent}/buildkit")
