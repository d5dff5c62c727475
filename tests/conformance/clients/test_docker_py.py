"""docker-py: the library that most Python programs use. Its own tests run in a level of their own (tests/dockerpy/)."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable

import docker
import pytest
from docker.models.containers import Container
from docker.models.networks import Network

from tests.conformance.clients.conftest import packed
from tests.conformance.conftest import Shelf
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.claim("client-docker-py")


@pytest.mark.claim("GET /version", "GET /info", "GET /_ping")
def test_it_agrees_on_a_version_and_asks_who_is_there(client: docker.DockerClient) -> None:
    assert client.ping() is True
    version = client.version()
    assert client.api.api_version == version["ApiVersion"] or version["ApiVersion"] > client.api.api_version
    info = client.info()
    assert info["OSType"] == "linux" and info["Containers"] >= 0 and info["Driver"]


def test_run_returns_the_output_and_removes_the_container(client: docker.DockerClient, busybox: str, name: str) -> None:
    assert client.containers.run(busybox, ["echo", "hello"], name=name, remove=True) == b"hello\n"
    assert client.containers.list(all=True, filters={"name": name}) == []


def test_run_of_what_fails_raises_with_status_and_words(client: docker.DockerClient, busybox: str, name: str) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run(busybox, ["sh", "-c", "echo lost >&2; exit 3"], name=name, stderr=True)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"lost\n")


def test_run_with_stdout_and_stderr_apart(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.run(busybox, ["sh", "-c", "echo out; echo err >&2"], name=name, detach=True)
    assert container.wait()["StatusCode"] == 0
    assert container.logs(stdout=True, stderr=False) == b"out\n"
    assert container.logs(stdout=False, stderr=True) == b"err\n"


def test_options_of_run_arrive(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.run(
        busybox, ["sh", "-c", 'echo "$A $(pwd) $(hostname) $(id -u)"'], name=name, detach=True, hostname="inside",
        environment={"A": "1"}, working_dir="/tmp", user="33", labels={"of": name}, mem_limit="64m", pids_limit=50,
        cap_drop=["NET_RAW"], read_only=True, tmpfs={"/scratch": "size=1m"}, ulimits=[{"Name": "core", "Hard": 0}],
        extra_hosts={"friend": "10.9.8.7"}, init=True, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )  # fmt: skip
    container.wait()
    assert container.logs() == b"1 /tmp inside 33\n"
    container.reload()
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["PidsLimit"], host["CapDrop"], host["ReadonlyRootfs"]) == (
        64 << 20,
        50,
        ["NET_RAW"],
        True,
    )
    assert (host["Tmpfs"], host["ExtraHosts"], host["Init"]) == ({"/scratch": "size=1m"}, ["friend:10.9.8.7"], True)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["Ulimits"] == [{"Name": "core", "Hard": 0, "Soft": 0}]


def test_logs_are_followed_to_the_end(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.run(busybox, ["sh", "-c", "echo a; sleep 0.2; echo b"], name=name, detach=True)
    assert b"".join(container.logs(stream=True, follow=True)) == b"a\nb\n"


def test_attach_gives_what_is_written_after_it(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.create(busybox, ["cat"], name=name, stdin_open=True)
    # The library takes the stream over; what is sent before the start waits.
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    sock._sock.sendall(b"through\n")
    sock._sock.shutdown(1)
    read = b""
    while chunk := sock._sock.recv(4096):
        read += chunk
    sock.close()
    assert read == b"\x01\0\0\0\0\0\0\x08through\n"
    assert container.wait()["StatusCode"] == 0


def test_exec_run_and_its_exit_code(sleeper: Container) -> None:
    assert sleeper.exec_run(["sh", "-c", "echo $X; exit 4"], environment={"X": "y"}) == (4, b"y\n")
    code, (out, err) = sleeper.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (code, out, err) == (0, b"o\n", b"e\n")
    streamed = sleeper.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True).output
    assert b"".join(streamed) == b"1\n2\n"
    assert sleeper.exec_run(["id", "-u"], user="33", workdir="/tmp").output == b"33\n"


def test_exec_with_a_terminal_is_not_framed(sleeper: Container) -> None:
    assert sleeper.exec_run(["sh", "-c", "echo t; test -t 1"], tty=True) == (0, b"t\r\n")


def test_exec_start_decides_on_frames(client: docker.DockerClient, sleeper: Container) -> None:
    # Whether the exec has a terminal is said when it is made; whether its stream has frames, when it is started.
    made = client.api.exec_create(sleeper.id, ["echo", "t"], tty=True)
    assert client.api.exec_start(made, tty=False, demux=True) == (b"t\r\n", None)
    made = client.api.exec_create(sleeper.id, ["sh", "-c", "echo o; echo e >&2"])
    assert client.api.exec_start(made, tty=True) == b"o\n"


def test_life_of_a_container(sleeper: Container) -> None:
    def state() -> dict[str, object]:
        sleeper.reload()
        value = sleeper.attrs["State"]
        assert isinstance(value, dict)
        return value

    sleeper.pause()
    assert state()["Status"] == "paused"
    sleeper.unpause()
    # News of the pause may reach the reference after that, and those of its end soon after.
    wait_until(lambda: state()["Status"] == "running", what="its going on")
    before = state()["Pid"]
    sleeper.restart(timeout=0)
    assert state()["Status"] == "running" and state()["Pid"] != before
    sleeper.kill("SIGKILL")
    assert sleeper.wait()["StatusCode"] == 137
    sleeper.start()
    sleeper.stop(timeout=0)
    assert state()["Status"] == "exited"
    sleeper.remove()
    with pytest.raises(docker.errors.NotFound, match="No such container"):
        sleeper.reload()


def test_rename_and_top(client: docker.DockerClient, sleeper: Container, names: Callable[[], str]) -> None:
    other = names()
    sleeper.rename(other)
    assert client.containers.get(other).id == sleeper.id
    # At first it is a runtime that is about to become the command.
    wait_until(lambda: [row[-1] for row in sleeper.top()["Processes"]] == ["sleep 600"], what="its one process")


def test_lists_filter_in_its_dialect(client: docker.DockerClient, busybox: str, name: str) -> None:
    made = client.containers.create(busybox, ["true"], name=name, labels={"of": name, "kind": "x"})

    def found(**filters: object) -> list[str | None]:
        return [container.id for container in client.containers.list(all=True, filters=filters)]

    assert found(label=[f"of={name}", "kind"]) == [made.id]
    assert found(label=f"of={name}", status=["created", "exited"]) == [made.id]
    assert found(label=f"of={name}", status="running") == []
    assert made.id in found(ancestor=busybox)
    with pytest.raises(docker.errors.APIError) as caught:
        found(nonsense="1")
    assert caught.value.status_code == 400


@pytest.mark.claim("GET /events")
def test_events_arrive_while_things_happen(client: docker.DockerClient, busybox: str, name: str) -> None:
    stream = client.events(decode=True, filters={"type": "container", "container": [name]})
    seen: list[str] = []

    def listen() -> None:
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    thread = threading.Thread(target=listen)
    thread.start()
    container = client.containers.run(busybox, ["true"], name=name, detach=True)
    container.wait()
    container.remove()
    thread.join(30)
    assert not thread.is_alive()
    stream.close()
    assert seen == ["create", "start", "die", "destroy"]


@pytest.mark.claim("POST /images/create", "GET /images/json", "POST /images/{name}/tag", "DELETE /images/{name}")
def test_images_come_and_go(client: docker.DockerClient, shelf: Shelf, repository: str) -> None:
    reference = shelf.add("clients/dockerpy:1", label="clients-dockerpy", config={"Env": ["PATH=/bin"]})
    lines = list(client.api.pull(reference, stream=True, decode=True))
    assert lines[0]["status"].startswith("Pulling from") and lines[-1]["status"].startswith("Status: ")
    image = client.images.get(reference)
    assert image.tags == [reference] and image.labels == {"test": "clients-dockerpy"}
    assert image.tag(repository, "again")
    assert [found.id for found in client.images.list(filters={"label": "test=clients-dockerpy"})] == [image.id]
    assert {f"{repository}:again", reference} == set(client.images.get(image.id).tags)
    assert [entry["CreatedBy"] for entry in image.history()] == ["layer 0"]
    client.images.remove(f"{repository}:again")
    client.images.remove(reference)
    with pytest.raises(docker.errors.ImageNotFound, match="No such image"):
        client.images.get(reference)


@pytest.mark.claim("POST /images/{name}/push")
def test_push_tells_the_digest(client: docker.DockerClient, shelf: Shelf, busybox: str) -> None:
    target = f"{shelf.registry.address}/clients/pushed"
    client.images.get(busybox).tag(target, "1")
    lines = list(client.images.push(target, "1", stream=True, decode=True))
    assert [line["aux"]["Tag"] for line in lines if "aux" in line] == ["1"]
    assert client.images.get(f"{target}:1").attrs["RepoDigests"]
    client.images.remove(f"{target}:1")


def test_ports_are_told(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.run(
        busybox, ["sleep", "600"], name=name, detach=True, ports={"80/tcp": None, "53/udp": ("127.0.0.1", None)}
    )
    container.reload()
    assert container.ports["53/udp"][0]["HostIp"] == "127.0.0.1"
    assert int(container.ports["80/tcp"][0]["HostPort"]) > 0


@pytest.mark.claim("PUT /containers/{id}/archive", "GET /containers/{id}/archive")
def test_files_go_in_and_come_out(sleeper: Container) -> None:
    assert sleeper.put_archive("/tmp", packed({"in/one": b"1\n", "two": b"22\n"}))
    assert sleeper.exec_run(["cat", "/tmp/in/one", "/tmp/two"]).output == b"1\n22\n"
    chunks, stat = sleeper.get_archive("/tmp/two")
    assert (stat["name"], stat["size"]) == ("two", 3)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        member = tar.extractfile("two")
        assert member is not None and member.read() == b"22\n"


@pytest.mark.claim("GET /containers/{id}/changes")
def test_diff_names_what_changed(client: docker.DockerClient, busybox: str, name: str) -> None:
    container = client.containers.run(busybox, ["sh", "-c", "echo > /root/new; rm /etc/group"], name=name, detach=True)
    container.wait()
    assert sorted((entry["Path"], entry["Kind"]) for entry in container.diff()) == [
        ("/etc", 0), ("/etc/group", 2), ("/root", 0), ("/root/new", 1),
    ]  # fmt: skip


@pytest.mark.claim("GET /containers/{id}/stats")
def test_stats_once(sleeper: Container) -> None:
    stats = sleeper.stats(stream=False)
    assert stats["id"] == sleeper.id and stats["memory_stats"]["usage"] > 0 and stats["pids_stats"]["current"] == 1


@pytest.mark.claim("POST /containers/{id}/update")
def test_update_changes_limits(sleeper: Container) -> None:
    sleeper.update(mem_limit="96m", memswap_limit="96m")
    sleeper.reload()
    assert sleeper.attrs["HostConfig"]["Memory"] == 96 << 20


@pytest.mark.claim("POST /commit")
def test_commit_makes_an_image(client: docker.DockerClient, sleeper: Container, repository: str) -> None:
    sleeper.exec_run(["sh", "-c", "echo kept > /kept"])
    image = sleeper.commit(repository, "1", message="kept", conf={"Cmd": ["cat", "/kept"]})
    assert client.containers.run(image.id, remove=True) == b"kept\n"


@pytest.mark.claim("GET /containers/{id}/export", "POST /images/create")
def test_export_and_import(client: docker.DockerClient, sleeper: Container, repository: str) -> None:
    sleeper.exec_run(["sh", "-c", "echo out > /exported"])
    made = client.api.import_image_from_data(b"".join(sleeper.export()), repository=repository, tag="1")
    assert "sha256:" in made
    assert client.containers.run(f"{repository}:1", ["cat", "/exported"], remove=True) == b"out\n"


@pytest.mark.claim("GET /images/get", "POST /images/load")
def test_save_and_load(client: docker.DockerClient, shelf: Shelf) -> None:
    reference = shelf.add("clients/saved:1", label="clients-saved")
    image = client.images.pull(reference)
    archive = b"".join(image.save(named=True))
    client.images.remove(reference)
    assert [loaded.tags for loaded in client.images.load(archive)] == [[reference]]
    client.images.remove(reference)


@pytest.mark.claim("POST /build")
def test_build_from_a_folder(client: docker.DockerClient, busybox: str, repository: str) -> None:
    context = packed({"Dockerfile": f"FROM {busybox}\nCOPY word /word\nCMD cat /word\n".encode(), "word": b"built\n"})
    image, log = client.images.build(
        fileobj=io.BytesIO(context), custom_context=True, tag=f"{repository}:1", rm=True, forcerm=True
    )
    assert any("Successfully built" in line.get("stream", "") for line in log)
    assert client.containers.run(image.id, remove=True) == b"built\n"


@pytest.mark.claim("POST /volumes/create", "GET /volumes/{name}", "GET /volumes", "DELETE /volumes/{name}")
def test_volumes_keep_files(client: docker.DockerClient, busybox: str, volume: str) -> None:
    made = client.volumes.create(volume, labels={"of": volume})
    assert [found.name for found in client.volumes.list(filters={"label": f"of={volume}"})] == [volume]
    mounts = {volume: {"bind": "/data", "mode": "rw"}}
    client.containers.run(busybox, ["sh", "-c", "echo kept > /data/x"], volumes=mounts, remove=True)
    assert client.containers.run(busybox, ["cat", "/data/x"], volumes=mounts, remove=True) == b"kept\n"
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get(volume)


@pytest.mark.claim("POST /networks/create", "GET /networks/{id}", "DELETE /networks/{id}")
def test_a_network_with_its_subnet(client: docker.DockerClient, busybox: str, name: str, network: str) -> None:
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.77.0.0/24", gateway="10.77.0.9")])
    made = client.networks.create(network, driver="bridge", ipam=pool, labels={"of": network})
    assert [found.id for found in client.networks.list(names=[network])] == [made.id]
    container = client.containers.run(busybox, ["sleep", "600"], name=name, network=network, detach=True)
    container.reload()
    endpoint = container.attrs["NetworkSettings"]["Networks"][network]
    assert endpoint["IPAddress"].startswith("10.77.0.") and endpoint["Gateway"] == "10.77.0.9"
    assert container.exec_run(["ip", "route"]).output.startswith(b"default via 10.77.0.9")
    container.remove(force=True)
    made.remove()


@pytest.fixture
def meeting(client: docker.DockerClient, network: str) -> Network:
    """A network to connect to."""
    return client.networks.create(network)


@pytest.mark.claim("POST /networks/{id}/connect", "POST /networks/{id}/disconnect")
def test_connect_and_disconnect(meeting: Network, sleeper: Container) -> None:
    meeting.connect(sleeper, aliases=["friend"])
    meeting.reload()
    assert [container.id for container in meeting.containers] == [sleeper.id]
    assert b"eth1" in sleeper.exec_run(["ip", "-o", "link"]).output
    meeting.disconnect(sleeper)
    assert b"eth1" not in sleeper.exec_run(["ip", "-o", "link"]).output


@pytest.mark.claim("rule-errors-are-json")
def test_errors_carry_the_engines_words(client: docker.DockerClient, name: str) -> None:
    with pytest.raises(docker.errors.NotFound) as caught:
        client.containers.get(name)
    assert (caught.value.status_code, caught.value.explanation) == (404, f"No such container: {name}")
    with pytest.raises(docker.errors.ImageNotFound) as missing:
        client.containers.create("127.0.0.1:5000/never/there:1", ["true"], name=name)
    assert missing.value.explanation == "No such image: 127.0.0.1:5000/never/there:1"


def test_two_clients_do_not_wait_for_each_other(
    engine: Engine, client: docker.DockerClient, sleeper: Container
) -> None:
    stream = sleeper.logs(stream=True, follow=True)
    other = docker.DockerClient(base_url=engine.host, version="auto", timeout=20)
    assert other.ping()
    other.close()
    sleeper.kill()
    assert list(stream) == []
