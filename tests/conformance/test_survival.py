"""Containers outlive a daemon that is killed, and a new daemon takes them over: no reference engine to compare with."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engines import Engine, Pyker
from tests.support.registry import Registry
from tests.support.residue import cgroups, look
from tests.support.sandbox import children, wait_until

pytestmark = [
    pytest.mark.only_pyker,
    pytest.mark.requires("root", "busybox", "docker-registry", "skopeo", "docker-cli"),
]


@pytest.fixture
def mortal(engine: Engine, tmp_path: Path) -> Iterator[tuple[Pyker, str]]:
    """An engine of the test's own, that it may kill, with one image pulled."""
    made = Pyker(tmp_path / "mortal")
    made.start()
    try:
        with Registry(tmp_path / "registry", made.sandbox) as registry:
            reference = registry.push(images.make(tmp_path / "image"), "test/busybox:1")
            made.docker("pull", "-q", reference, check=True)
            yield made, reference
    finally:
        made.stop()


def _command_line(pid: int) -> str:
    """Nothing of a process that has ended meanwhile, as workers do."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _counting(engine: Engine, image: str, *flags: str) -> int:
    script = "i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done"
    engine.docker("run", "-d", "--name", "counter", *flags, image, "sh", "-c", script, check=True)
    pid = engine.state("counter")["Pid"]
    assert isinstance(pid, int)
    return pid


@pytest.mark.claim("engine-keeps-containers")
def test_a_container_survives_the_daemons_death(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    pid = _counting(engine, image)
    engine.kill()
    before = os.stat(f"/proc/{pid}").st_ctime
    engine.start()
    state = engine.state("counter")
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert os.stat(f"/proc/{pid}").st_ctime == before


@pytest.mark.claim("rule-log-file")
def test_no_line_of_its_log_is_lost(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    _counting(engine, image)
    wait_until(lambda: len(engine.docker("logs", "counter").out.split()) > 5, what="five lines")
    engine.kill()
    engine.start()
    seen = len(engine.docker("logs", "counter").out.split())
    wait_until(lambda: len(engine.docker("logs", "counter").out.split()) > seen + 5, what="more lines")
    lines = engine.docker("logs", "counter").out.split()
    assert lines == [str(number) for number in range(1, len(lines) + 1)]


@pytest.mark.claim("execdriver-exec")
def test_it_can_be_entered_stopped_and_removed(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    pid = _counting(engine, image)
    engine.kill()
    engine.start()
    assert engine.docker("exec", "counter", "echo", "inside").out == "inside\n"
    assert engine.docker("stop", "-t", "1", "counter").code == 0
    assert not Path(f"/proc/{pid}").exists()
    assert engine.docker("rm", "counter").code == 0


@pytest.mark.claim("rule-wait")
def test_the_exit_code_of_one_that_ended_meanwhile(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    engine.docker("run", "-d", "--name", "brief", image, "sh", "-c", "sleep 0.7; echo last words; exit 9", check=True)
    pid = engine.state("brief")["Pid"]
    engine.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the container's end")
    engine.start()
    state = engine.state("brief")
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)
    assert engine.docker("logs", "brief").out == "last words\n"


@pytest.mark.claim("POST /containers/{id}/attach")
def test_attach_works_as_before(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    engine.docker("run", "-d", "-i", "--name", "asker", image, "sh", "-c", "read x; echo got $x; sleep 0.2", check=True)
    engine.kill()
    engine.start()
    done = engine.docker("attach", "asker", input="after\n", timeout=20)
    assert done.out == "got after\n", done


@pytest.mark.claim("network-ports")
def test_published_ports_answer_while_there_is_no_daemon(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    script = "mkdir /w; echo page > /w/index.html; httpd -f -p 80 -h /w"
    engine.docker("run", "-d", "--name", "web", "-p", "18080:80", image, "sh", "-c", script, check=True)

    def fetch() -> bytes:
        done = engine.sandbox.run(["busybox", "wget", "-qO-", "http://127.0.0.1:18080/"], check=False)
        return done.stdout

    wait_until(lambda: fetch() == b"page\n", what="the page", every=0.1)
    engine.kill()
    assert fetch() == b"page\n"
    engine.start()
    assert fetch() == b"page\n"
    assert engine.docker("port", "web").out.splitlines()[0] == "80/tcp -> 0.0.0.0:18080"
    other = engine.docker("run", "--rm", "-p", "18080:80", image, "true")
    assert other.code == 125 and "port is already allocated" in other.err


@pytest.mark.claim("execdriver-runs")
def test_the_launchers_death_harms_nothing(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    pid = _counting(engine, image)
    launchers = [child for child in children(engine.pid) if "launcher" in _command_line(child)]
    assert launchers
    os.kill(launchers[0], signal.SIGKILL)
    assert engine.docker("exec", "counter", "echo", "still").out == "still\n"
    assert engine.docker("run", "--rm", image, "echo", "new").out == "new\n"
    assert engine.state("counter")["Pid"] == pid


@pytest.mark.claim("rule-restart-policies")
def test_restart_always_comes_back(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    engine.docker("run", "-d", "--name", "phoenix", "--restart", "always", image, "sleep", "300", check=True)
    pid = engine.state("phoenix")["Pid"]
    assert isinstance(pid, int)
    engine.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the container's end")
    engine.start()
    wait_until(lambda: engine.state("phoenix")["Running"] is True, what="its return")
    assert engine.state("phoenix")["Pid"] != pid


@pytest.mark.claim("daemon-stays")
def test_a_second_daemon_on_the_same_root_is_refused(mortal: tuple[Pyker, str]) -> None:
    engine, _ = mortal
    command = [part if part != engine.host else engine.host + "2" for part in engine.command()]
    done = engine.sandbox.run(command, check=False, timeout=20)
    assert done.returncode == 1
    assert str(engine.data_root) in done.stderr.decode() or "pid" in done.stderr.decode()
    assert engine.request("GET", "/_ping").status == 200


@pytest.mark.claim("break-leaks")
def test_nothing_is_left_behind(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    engine.docker("run", "--rm", image, "true", check=True)
    before = look(engine.sandbox, cgroup_parent=engine.cgroup_parent)
    for flags in ([], ["--network", "none"], ["-p", "80"], ["-v", "/data"], ["-m", "64m"], ["--init"]):
        assert engine.docker("run", "--rm", *flags, image, "true").code == 0
    engine.docker("run", "--rm", image, "nosuchcmd")
    engine.docker("run", "--rm", "--network", "nosuch", image, "true")
    engine.docker("run", "-d", "--name", "gone", "-p", "80", image, "sleep", "60", check=True)
    engine.docker("rm", "-f", "-v", "gone", check=True)

    def clean() -> bool:
        now = look(engine.sandbox, cgroup_parent=engine.cgroup_parent)
        # Sandboxes made ahead of time come and go; their number is bounded.
        spare = re.compile(r"link veth|mount /run/pyker/netns/")
        return not [leak for leak in now.leaks(before) if not spare.match(leak)]

    wait_until(clean, what="a clean machine")
    assert os.listdir(engine.data_root / "containers") == []
    assert os.listdir(engine.data_root / "volumes") in ([], ["metadata.db"])
    assert len(cgroups(engine.cgroup_parent)) == len(
        {path for path in cgroups(engine.cgroup_parent) if path.endswith(engine.cgroup_parent)}
    )


@pytest.mark.claim("break-leaks", "network-bridge-at-start")
def test_stopping_the_daemon_takes_the_network_down(tmp_path: Path, engine: Engine) -> None:
    made = Pyker(tmp_path / "brief")
    before = look(made.sandbox, cgroup_parent=made.cgroup_parent)
    made.start()
    assert made.daemon is not None
    made.daemon.terminate()
    assert made.daemon.wait(20) == 0
    leaks = look(made.sandbox, cgroup_parent=made.cgroup_parent).leaks(before)
    made.stop()
    assert not [leak for leak in leaks if leak.startswith(("mount /run/pyker/netns", "cgroup"))], leaks


@pytest.mark.claim(
    "shape-jobs-of-walkthroughs",
    "engine-runs-jobs",
    "engine-manages-by-jobs",
    "job-run-is-create-then-start",
    "exec-allocates-by-job",
)
def test_jobs_tell_the_two_walkthroughs(mortal: tuple[Pyker, str]) -> None:
    engine, image = mortal
    container = engine.docker("run", "-d", "--name", "told", image, "true", check=True).out.strip()

    def tree() -> str:
        return engine.pyker("jobs", "--tree", container[:12]).out

    wait_until(lambda: "execdriver_run" in tree(), what="the journal", timeout=5)
    text = tree()
    for job in ("create", "start", "mount_rootfs", "allocate_interface", "execdriver_run"):
        assert job in text, text
    listed: Any = engine.pyker("jobs").out
    assert "pull" in listed and "start" in listed
