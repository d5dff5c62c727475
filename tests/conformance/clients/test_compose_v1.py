"""Compose v1, Debian's 1.29: still what many machines have. It speaks through docker-py's dialect."""

from __future__ import annotations

import pytest

from tests.conformance.clients.conftest import Project
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = [pytest.mark.claim("client-compose-v1"), pytest.mark.requires("compose-v1")]

COMPOSE = ("docker-compose",)
ALONE = """
version: "2.4"
services:
  app:
    image: {image}
    command: sh -c "echo started; exec sleep 600"
    network_mode: {network}
    stop_grace_period: 0s
    environment: {{WORD: said}}
    labels: {{of.app: "yes"}}
"""
TOGETHER = """
version: "2.4"
services:
  app:
    image: {image}
    command: sleep 600
    depends_on: [store]
    networks: {{default: {{aliases: [front]}}}}
  store:
    image: {image}
    command: sh -c "echo kept > /data/x; exec sleep 600"
    volumes: ["data:/data"]
volumes: {{data: {{}}}}
"""


def labels_of(engine: Engine, project: Project) -> list[dict[str, str]]:
    """The labels of every container that belongs to the project."""
    mine = f"label=com.docker.compose.project={project.name}"
    found = []
    for identifier in engine.docker("ps", "-a", "-q", "--filter", mine, check=True).out.split():
        config = engine.inspect(identifier)["Config"]
        assert isinstance(config, dict)
        found.append(config["Labels"])
    return found


@pytest.mark.parametrize("network", ["bridge", "none", "host"])
def test_one_service_comes_up_and_goes(engine: Engine, project: Project, busybox: str, network: str) -> None:
    project.write(ALONE.format(image=busybox, network=network))
    project("up", "-d")
    assert "app_1" in project("ps").out
    (labels,) = labels_of(engine, project)
    assert labels["com.docker.compose.service"] == "app" and labels["com.docker.compose.container-number"] == "1"
    assert labels["of.app"] == "yes"
    wait_until(lambda: "started" in project("logs").out, what="its first word")
    project("down")
    assert labels_of(engine, project) == []


def test_exec_and_run(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox, network="none"))
    project("up", "-d")
    assert project("exec", "-T", "app", "sh", "-c", "echo $WORD").out == "said\n"
    assert project("exec", "-T", "app", "sh", "-c", "exit 5", check=False).code == 5
    assert project("run", "--rm", "-T", "app", "echo", "once").out == "once\n"


def test_up_again_changes_nothing_and_a_changed_service_is_made_anew(
    engine: Engine, project: Project, busybox: str
) -> None:
    project.write(ALONE.format(image=busybox, network="none"))
    project("up", "-d")
    before = project("ps", "-q").out
    assert "up-to-date" in project("up", "-d").err
    assert project("ps", "-q").out == before
    project.write(ALONE.format(image=busybox, network="none").replace("said", "other"))
    assert "Recreating" in project("up", "-d").err
    assert project("ps", "-q").out != before
    assert project("exec", "-T", "app", "sh", "-c", "echo $WORD").out == "other\n"
    assert len(labels_of(engine, project)) == 1


def test_stop_start_kill_and_restart(engine: Engine, project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox, network="none"))
    project("up", "-d")
    container = project("ps", "-q").out.strip()
    project("stop")
    assert engine.state(container)["Status"] == "exited"
    project("start")
    assert engine.state(container)["Status"] == "running"
    project("pause")
    assert engine.state(container)["Status"] == "paused"
    project("unpause")
    project("restart", "-t", "0")
    assert engine.state(container)["Status"] == "running"
    project("kill")
    assert engine.state(container)["ExitCode"] == 137
    project("rm", "-f")
    assert labels_of(engine, project) == []


def test_scale(engine: Engine, project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox, network="none"))
    project("up", "-d", "--scale", "app=3")
    assert sorted(labels["com.docker.compose.container-number"] for labels in labels_of(engine, project)) == [
        "1",
        "2",
        "3",
    ]
    project("up", "-d", "--scale", "app=1")
    assert len(labels_of(engine, project)) == 1


def test_pull_and_a_missing_image(project: Project, busybox: str) -> None:
    project.write(ALONE.format(image=busybox, network="none"))
    project("pull")
    project.write(ALONE.format(image="127.0.0.1:5000/never/there:1", network="none"))
    done = project("up", "-d", check=False)
    assert done.code == 1 and "not found" in done.err


@pytest.mark.claim("GET /networks/{id}", "POST /networks/{id}/disconnect", "POST /networks/{id}/connect")
def test_services_on_a_network_find_each_other(project: Project, busybox: str) -> None:
    text = TOGETHER.format(image=busybox).replace('    volumes: ["data:/data"]\n', "").replace("/data/x", "/tmp/x")
    project.write(text.replace("volumes: {data: {}}\n", ""))
    project("up", "-d")
    assert "store" in project("exec", "-T", "app", "ping", "-c1", "store").out
    assert "front" in project("exec", "-T", "store", "ping", "-c1", "front").out


@pytest.mark.claim("POST /volumes/create", "DELETE /volumes/{name}")
def test_volumes_outlive_their_service_and_go_with_the_project(engine: Engine, project: Project, busybox: str) -> None:
    project.write(TOGETHER.format(image=busybox).replace("    networks: {default: {aliases: [front]}}\n", ""))
    project("up", "-d")
    name = f"{project.name}_data"
    assert engine.docker("volume", "inspect", "-f", "{{.Name}}", name).out == f"{name}\n"
    wait_until(lambda: project("exec", "-T", "store", "test", "-s", "/data/x", check=False).code == 0, what="the file")
    project("rm", "-s", "-f")
    assert project("run", "--rm", "-T", "store", "cat", "/data/x").out == "kept\n"
    project("down", "-v")
    assert engine.docker("volume", "inspect", name).code == 1


@pytest.mark.claim("POST /build")
def test_build(project: Project, busybox: str) -> None:
    project.add("Dockerfile", f"FROM {busybox}\nRUN echo built > /word\nCMD cat /word\n")
    project.write('version: "2.4"\nservices:\n  app:\n    build: .\n    network_mode: none\n')
    assert "Successfully built" in project("build").out
    assert project("run", "--rm", "-T", "app").out == "built\n"
    project("down", "--rmi", "all")
