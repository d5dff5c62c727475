"""The lab's way to guests: command line, QEMU's command line, the agent's protocol, deadlines, what is shown."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lab import accelerator, cache, commandline, qemu, reporting, sourcetree, workshop
from lab.agentlink import AgentLink, GuestLost
from lab.commands import Tools
from lab.progress import Progress, Tally
from lab.runner import Outcome
from lab.table import Box, Guest, LabError, Pair, table

AGENT = Path(qemu.__file__).parent / "guest/agent.py"


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


class Guests:
    """Answers on a socket as an agent would; what it is told to say is a list of lines for each request."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.requests: list[dict[str, Any]] = []
        self.answers: list[list[dict[str, Any]]] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            with wire, wire.makefile("rwb") as stream:
                for line in stream:
                    request = json.loads(line)
                    self.requests.append(request)
                    for answer in self.answers.pop(0):
                        stream.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
                        stream.flush()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guests]:
    made = Guests(tmp_path / "agent")
    yield made
    made.close()


def connected(tmp_path: Path, **options: Any) -> AgentLink:
    link = AgentLink(tmp_path / "agent", **options)
    link.connect(5)
    return link


def test_a_request_and_its_events(tmp_path: Path, guest: Guests) -> None:
    guest.answers.append([{"event": {"kind": "start"}}, {"id": -1, "done": True}, {"done": True, "code": 3}])
    seen: list[object] = []
    link = connected(tmp_path)
    assert link.call("pytest", timeout_s=5, on_event=seen.append, cwd="/src")["code"] == 3
    assert seen == [{"kind": "start"}]
    assert (guest.requests[0]["op"], guest.requests[0]["cwd"]) == ("pytest", "/src")
    link.close()


def test_an_agent_that_fails_says_why(tmp_path: Path, guest: Guests) -> None:
    guest.answers.append([{"done": True, "error": "Traceback: boom"}])
    with pytest.raises(LabError, match="boom"):
        connected(tmp_path).call("run", timeout_s=5)


def test_a_silent_guest_is_given_up_at_the_deadline(tmp_path: Path, guest: Guests) -> None:
    guest.answers.append([])
    with pytest.raises(GuestLost, match=r"did not answer within 0\.1 s"):
        connected(tmp_path).call("run", timeout_s=0.1)


def test_a_guest_that_ended_is_noticed_before_the_deadline(tmp_path: Path, guest: Guests) -> None:
    guest.answers.append([])
    with pytest.raises(GuestLost, match="ended"):
        connected(tmp_path, alive=lambda: False).call("run", timeout_s=300)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(GuestLost, match="nobody listens"):
        AgentLink(tmp_path / "nothing").connect(0.05)


def test_the_port_can_be_lent(tmp_path: Path, guest: Guests) -> None:
    link = connected(tmp_path)
    with link.lent():
        other = connected(tmp_path)
        guest.answers.append([{"done": True, "who": "other"}])
        assert other.call("x", timeout_s=5)["who"] == "other"
        other.close()
    guest.answers.append([{"done": True, "who": "first"}])
    assert link.call("x", timeout_s=5)["who"] == "first"


@pytest.fixture
def agent() -> ModuleType:
    """The agent's own module, which imports nothing of the lab."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("lab_guest_agent", AGENT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Closed(BaseException):
    """The other end of the agent's port is gone."""


def hear_of_the_end(seconds: float) -> None:
    raise Closed


@pytest.fixture
def spoken(agent: ModuleType, tmp_path: Path) -> Iterator[AgentLink]:
    """The real agent at the other end of a real link, in a thread in place of a guest."""
    path = tmp_path / "agent"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    link = AgentLink(path)
    link.connect(5)
    wire, _ = listener.accept()
    serving = agent.Agent(wire.fileno())

    def serve() -> None:
        with contextlib.suppress(Closed):
            serving.serve()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield link
    link.close()
    listener.close()
    # In a guest the agent waits for its next partner. This one hears of the end instead.
    agent.time = SimpleNamespace(sleep=hear_of_the_end)
    thread.join(10)
    wire.close()


def test_a_command_in_the_guest(spoken: AgentLink) -> None:
    done = spoken.run(["sh", "-c", "cat; echo err >&2; exit 4"], stdin=b"in\xff\n")
    assert (done.code, done.stdout, done.stderr) == (4, b"in\xff\n", b"err\n")
    assert spoken.run(["sh", "-c", "echo $A; pwd"], environment={"A": "b"}, cwd="/tmp").stdout == b"b\n/tmp\n"


def test_a_command_that_does_not_end(spoken: AgentLink) -> None:
    with pytest.raises(LabError, match=r"sleep 600 did not end within 0\.2 s"):
        spoken.run(["sleep", "600"], timeout_s=0.2)
    assert spoken.run(["true"]).code == 0


def test_a_command_that_is_not_there(spoken: AgentLink) -> None:
    with pytest.raises(LabError, match="FileNotFoundError"):
        spoken.run(["/no/such/program"])


def test_an_unknown_request(spoken: AgentLink) -> None:
    with pytest.raises(LabError, match="KeyError: 'dance'"):
        spoken.call("dance", timeout_s=5)


def test_the_tree_under_test_becomes_a_package(
    agent: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "dist-packages"
    agent.install(Path(qemu.__file__).parents[1], packages)
    found = next(packages.glob("pyker-*.dist-info"))
    assert "\noverlay2 = pyker.graphdriver.overlay2:Overlay2Driver\n" in (found / "entry_points.txt").read_text()


def test_everything_by_default() -> None:
    choice = commandline.parse([], table())
    names = [place.name for place in choice.places if place is not None]
    assert names == [guest.name for guest in table().guests if not guest.on_request]
    assert choice.pairs == table().pairs
    assert choice.report and choice.wanted.checks
    assert choice.wanted.tests


def test_tests_of_ones_own_in_a_guest_of_ones_own() -> None:
    choice = commandline.parse(["--guest", "6.1-v2", "--", "tests/kernel/test_x.py", "-k", "y"], table())
    assert [place.name for place in choice.places if place] == ["6.1-v2"]
    assert choice.wanted.tests == ["tests/kernel/test_x.py", "-k", "y"]
    assert not choice.report
    assert choice.pairs == ()


def test_places_of_every_kind() -> None:
    assert isinstance(commandline.parse(["--guest", "aufs"], table()).places[0], Guest)
    pair = commandline.parse(["--guest", "two-nodes"], table())
    assert pair.places == () and isinstance(pair.pairs[0], Pair)
    assert commandline.parse(["--backend", "local"], table()).places == (None,)
    assert isinstance(commandline.parse(["--backend", "vagrant", "--guest", "centos"], table()).places[0], Box)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--guest", "nope"], "no guest 'nope'"),
        (["--shell"], "name it with --guest"),
        (["--backend", "vagrant", "--guest", "6.1-v2"], "no box '6.1-v2'"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        commandline.parse(arguments, table())


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match="run it as root"):
        commandline.parse([], table())
    assert commandline.parse(["--list"], table()).listing


def test_the_list_names_every_entry(tmp_path: Path) -> None:
    (tmp_path / "state-6.1-v2-0123").mkdir()
    (tmp_path / "state-6.1-v2-0123/manifest.json").touch()
    text = reporting.listing(table(), tmp_path)
    for entry in (*table().guests, *table().pairs, *table().boxes):
        assert entry.name in text
    assert [line.split()[0] for line in text.splitlines() if "saved state" in line] == ["6.1-v2"]


HARDWARE = qemu.Hardware(
    vmlinux=Path("/c/k,1/vmlinux"),
    initrd=Path("/c/i/initrd"),
    root=Path("/c/r/root,1.squashfs"),
    modules=Path("/c/k/modules.squashfs"),
    storage=Path("/c/s/storage.img"),
    memory_mib=512,
    cgroup="v1",
    accelerator="tcg",
)


def test_the_command_line_of_qemu() -> None:
    argv = qemu.command(HARDWARE, Path("/run/x"), Path("/src"), Path("/out"))
    text = " ".join(argv)
    assert argv[argv.index("-kernel") + 1] == "/c/k,1/vmlinux"
    assert "file=/c/r/root,,1.squashfs,format=raw,readonly=on" in text
    assert "file=/c/s/storage.img,format=raw,snapshot=on" in text
    assert "lab.cgroup=v1" in text
    assert "path=/src,security_model=none,readonly=on" in text
    assert "norandmaps" in text and "norandmaps" not in " ".join(
        qemu.command(replace(HARDWARE, accelerator=accelerator.KVM), Path("/run/x"), Path("/src"), Path("/out"))
    )
    assert "-netdev" not in argv and "-incoming" not in argv
    assert "-incoming" in qemu.command(HARDWARE, Path("/run/x"), Path("/src"), Path("/out"), Path("/c/state"))


def test_how_kvm_is_chosen(tmp_path: Path) -> None:
    def choose(value: str) -> str:
        return accelerator.choose(Tools(), cache.Cache(tmp_path), Path("/none"), {"PYKER_LAB_ACCEL": value})

    assert choose("kvm") == accelerator.KVM
    assert choose("tcg") == accelerator.TCG
    with pytest.raises(LabError, match="it may be auto, kvm or tcg"):
        choose("fast")


def test_a_trial_that_cannot_start_means_emulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(accelerator, "PROGRAM", "/no/such/qemu")
    assert accelerator.choose(Tools(), cache.Cache(tmp_path), Path("/none"), {}) == accelerator.TCG


def test_a_kernel_that_nobody_brought(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="set PYKER_LAB_KERNELS"):
        workshop.brought_kernel("aufs", {})
    with pytest.raises(LabError, match="no folder 'aufs' in it"):
        workshop.brought_kernel("aufs", {"PYKER_LAB_KERNELS": str(tmp_path)})
    (tmp_path / "aufs").mkdir()
    assert workshop.brought_kernel("aufs", {"PYKER_LAB_KERNELS": str(tmp_path)}) == tmp_path / "aufs"


def test_tools_that_fail_hang_or_are_missing(tmp_path: Path) -> None:
    tools = Tools()
    assert tools.run(["echo", "hi"]) == "hi\n"
    with pytest.raises(LabError, match=r"(?s)exited 3:.*said this"):
        tools.run(["sh", "-c", "echo said this >&2; exit 3"])
    with pytest.raises(LabError, match=r"did not end within 0\.1 s"):
        tools.run(["sleep", "600"], timeout_s=0.1)
    with pytest.raises(LabError, match="run tools/bootstrap --lab"):
        tools.run(["no-such-tool"])
    running = tools.start(["sleep", "600"])
    tools.stop()
    assert running.wait(10) == -9
    with pytest.raises(LabError, match="interrupted"):
        tools.run(["true"])


def test_what_is_counted_and_said() -> None:
    stream = io.StringIO()
    tally = Tally(Progress(stream), "6.1-v2")
    for event in (
        {"kind": "collected", "count": 3},
        {"kind": "start", "test": "a"},
        {"kind": "end", "test": "a", "outcome": "passed"},
        {"kind": "start", "test": "b"},
        {"kind": "end", "test": "b", "outcome": "failed"},
        {"kind": "start", "test": "c"},
    ):
        tally(event)
    assert str(tally) == "2 of 3: 1 passed, 1 failed"
    assert tally.running == "c"
    assert "FAILED b" in stream.getvalue() and "3 tests" in stream.getvalue()


def test_results_of_an_earlier_run_are_forgotten(tmp_path: Path) -> None:
    for name in ("lab-a.json", "lab-a.xml", "lab-b.json", "other.json"):
        (tmp_path / name).touch()
    reporting.forget(tmp_path, ["a", "none"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab-b.json", "other.json"]


def test_an_outcome_is_good_only_without_failure_and_without_trouble() -> None:
    assert Outcome("a").good
    assert not Outcome("a", failed=["x"]).good
    assert not Outcome("a", trouble="hangs").good


def test_bytecode_goes_with_the_text_that_it_was_made_from(tmp_path: Path) -> None:
    tree, bytecode, archive = tmp_path / "tree", tmp_path / "bytecode", tmp_path / "source.tar"
    (tree / "pkg").mkdir(parents=True)
    (tree / "pkg/mod.py").write_text("X = 1\n")
    (tree / "pkg/run").write_text("#!/bin/sh\n")
    (tree / "pkg/run").chmod(0o755)
    (tree / "build").mkdir()
    (tree / "build/left-out").write_text("")
    assert sourcetree.pack(tree, bytecode, archive) == 2
    with tarfile.open(archive) as tar:
        assert tar.getmember("pkg/run").mode == 0o755
        date = tar.getmember("pkg/mod.py").mtime
    with tarfile.open(tmp_path / "back.tar", "w") as tar:
        for name in ("./pkg/__pycache__/mod.cpython-311.pyc", "./../__pycache__/mod.cpython-311.pyc", "./pkg/evil.so"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"pyc"))
    assert sourcetree.absorb(tmp_path / "back.tar", bytecode) == 1
    assert [path.name for path in bytecode.rglob("*.pyc")] == ["mod.cpython-311.pyc"]
    sourcetree.pack(tree, bytecode, archive)
    with tarfile.open(archive) as tar:
        assert "pkg/__pycache__/mod.cpython-311.pyc" in tar.getnames()
        assert tar.getmember("pkg/mod.py").mtime == date
    (tree / "pkg/mod.py").write_text("X = 2\n")
    sourcetree.pack(tree, bytecode, archive)
    with tarfile.open(archive) as tar:
        assert tar.getmember("pkg/mod.py").mtime != date


def test_a_tree_that_git_knows_is_packed_as_git_sees_it() -> None:
    names = set(sourcetree.files(Path(qemu.__file__).parents[1]))
    assert {"pyproject.toml", "lab/machines.json", "pyker/__init__.py"} <= names
    assert not any(name.startswith((".git/", ".venv/", "build/")) for name in names)
    assert sys.version_info >= (3, 11)
