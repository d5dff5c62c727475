"""testcontainers for Python: throw-away containers in other people's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.support.engines import Engine

pytestmark = pytest.mark.claim("client-testcontainers")


@pytest.fixture(autouse=True)
def chosen(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The engine under test, without the helper image of the Internet that cleans up after killed tests."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)


@pytest.fixture
def container(busybox: str) -> Iterator[DockerContainer]:
    """A started container."""
    made = DockerContainer(busybox).with_command('sh -c "echo ready to serve; exec sleep 600"').with_env("WORD", "said")
    made.with_exposed_ports(80)
    with made as started:
        yield started


def wrapped(container: DockerContainer) -> Container:
    """docker-py's object, as the engine describes it now."""
    inner = container.get_wrapped_container()
    inner.reload()
    return inner


def test_it_waits_for_a_line_of_the_log(container: DockerContainer) -> None:
    LogMessageWaitStrategy("ready to serve").with_startup_timeout(30).wait_until_ready(container)
    assert container.get_logs() == (b"ready to serve\n", b"")


def test_it_marks_what_is_its_own(container: DockerContainer) -> None:
    labels = wrapped(container).labels
    assert labels["org.testcontainers.lang"] == "python" and labels["org.testcontainers"] == "true"
    assert labels["org.testcontainers.session-id"]


def test_it_finds_the_port(container: DockerContainer) -> None:
    assert int(container.get_exposed_port(80)) == int(wrapped(container).ports["80/tcp"][0]["HostPort"])


def test_it_executes(container: DockerContainer) -> None:
    done = container.exec(["sh", "-c", "echo $WORD; exit 3"])
    assert (done.exit_code, done.output) == (3, b"said\n")


def test_it_is_gone_afterwards(client: docker.DockerClient, busybox: str) -> None:
    with DockerContainer(busybox).with_command("sleep 600") as started:
        identifier = started.get_wrapped_container().id
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(identifier)


def test_a_bind_mount(busybox: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("mounted\n")
    made = DockerContainer(busybox).with_command("sleep 600").with_volume_mapping(str(tmp_path), "/from", "ro")
    with made as started:
        assert started.exec(["cat", "/from/word"]).output == b"mounted\n"


@pytest.mark.claim("PUT /containers/{id}/archive")
def test_files_are_copied_in(busybox: str) -> None:
    made = DockerContainer(busybox).with_command("sleep 600").with_copy_into_container(b"copied\n", "/tmp/word")
    with made as started:
        assert started.exec(["cat", "/tmp/word"]).output == b"copied\n"


@pytest.mark.claim("POST /networks/create", "POST /networks/{id}/connect")
def test_containers_on_a_network_find_each_other(busybox: str) -> None:
    with Network() as network:
        one = DockerContainer(busybox).with_command("sleep 600").with_network(network).with_network_aliases("one")
        two = DockerContainer(busybox).with_command("sleep 600").with_network(network)
        with one, two:
            assert two.exec(["ping", "-c1", "one"]).exit_code == 0
