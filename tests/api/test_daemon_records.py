"""What a daemon leaves on the disk and in the kernel: before an answer, after kill -9, after its end."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.libcontainer.cgroups.layout import layout
from tests.support.engines import Engine, Pyker
from tests.support.sandbox import children, terminate, wait_until

pytestmark = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")

BUSYBOX = "pyker.local/busybox"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Pyker(tmp_path_factory.mktemp("records") / "engine")
    engine.start()
    engine.docker("pull", BUSYBOX, check=True)
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").remove_containers()


def create(engine: Engine, name: str, **host: object) -> str:
    """A container's ID, by the raw API."""
    body = {"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host}
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    assert reply.status == 201, reply
    value = reply.json()
    assert isinstance(value, dict)
    return str(value["Id"])


def records(engine: Engine) -> Path:
    """Where the records are that do not survive the machine."""
    return Path(f"/proc/{engine.pid}/root/run/pyker/records")


def test_a_created_container_is_on_the_disk_when_its_id_is_told(engine: Engine) -> None:
    folder = engine.data_root / "containers"
    for number in range(20):
        container = create(engine, f"durable{number}")
        assert (folder / container / "config.v2.json").stat().st_size > 0
        assert (folder / container / "hostconfig.json").stat().st_size > 0
        assert not (records(engine) / f"{container}.json").exists()


def test_a_created_container_survives_without_the_run_folder(engine: Engine) -> None:
    before = records(engine)
    container = create(engine, "kept")
    for record in before.iterdir():
        record.unlink()
    engine.kill()
    engine.start()
    assert engine.inspect("kept")["Id"] == container
    engine.docker("start", "kept", check=True)


def test_what_was_to_be_removed_at_its_end_goes_with_the_daemon_that_made_it(engine: Engine) -> None:
    container = create(engine, "gone", AutoRemove=True)
    stays = create(engine, "stays")
    engine.kill()
    engine.start()
    assert engine.request("GET", f"/containers/{container}/json").status == 404
    assert engine.state(stays)["Status"] == "created"
    assert not (engine.data_root / "containers" / container).exists()
    layers = engine.data_root / "image" / "overlay2" / "layerdb" / "mounts"
    assert [entry.name for entry in layers.iterdir()] == [stays]


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def test_the_daemon_opens_many_files_and_containers_see_the_limit_it_was_given(tmp_path: Path) -> None:
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(800, mine[1])
    own = Pyker(tmp_path / "engine")
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, mine[1]))
    try:
        own.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, mine)
    try:
        assert soft_limit(own.pid) == mine[1]
        run = ("run", "--rm", "--network=none", BUSYBOX, "sh", "-c", "ulimit -Sn; ulimit -Hn")
        expected = f"{low}\n{'unlimited' if mine[1] == resource.RLIM_INFINITY else mine[1]}\n"
        own.docker("pull", "-q", BUSYBOX, check=True)
        assert own.docker(*run, check=True).out == expected
        launcher = next(pid for pid in children(own.pid) if "launcher" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(launcher, signal.SIGKILL)
        wait_until(lambda: ended(launcher), timeout=10, what="the end of the launcher", every=0.01)
        assert own.docker(*run, check=True).out == expected
    finally:
        own.stop()


def ended(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_no_cgroup_is_left_by_a_daemon_without_containers(tmp_path: Path) -> None:
    own = Pyker(tmp_path / "engine")
    own.start()
    try:
        own.docker("pull", "-q", BUSYBOX, check=True)
        own.docker("run", "-d", "--name", "lives", BUSYBOX, "sleep", "1000", check=True)
        found = layout()
        parents = [Path(top + own.cgroup_parent) for top in (*found.mountpoints(), found.unified) if top]
        assert any(parent.is_dir() for parent in parents)
        assert own.daemon is not None
        terminate(own.daemon)
        assert any(parent.is_dir() for parent in parents)
        own.start()
        own.docker("rm", "-f", "lives", check=True)
        terminate(own.daemon)
        assert [parent for parent in parents if parent.exists()] == []
    finally:
        own.stop()


def test_a_cgroup_of_the_administrators_stays(tmp_path: Path) -> None:
    own = Pyker(tmp_path / "engine")
    top = Path(layout().mountpoints()[0] if layout().mountpoints() else layout().unified)
    parent = top / own.cgroup_parent.strip("/")
    parent.mkdir()
    try:
        own.start()
        assert own.daemon is not None
        terminate(own.daemon)
        assert parent.is_dir()
    finally:
        own.stop()
