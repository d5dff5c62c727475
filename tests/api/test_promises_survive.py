"""What a daemon has promised holds, whenever it is killed: clients at work, SIGKILL at random moments, a look at all.

A promise is an answer: a container that was created is there, one that was started runs, one that was killed has ended
by that signal, one that was removed is gone, and of what a container said there is every line. What was asked for and
not answered may be either way.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest

from pyker.api.frames import Demultiplexer
from tests.support.engines import Engine, Pyker, Reply
from tests.support.sandbox import own_children

pytestmark = [pytest.mark.requires("root", "overlay", "nftables", "busybox"), pytest.mark.slow]

BUSYBOX = "pyker.local/busybox"
COUNT = "i=0; while :; do echo $i; i=$((i+1)); usleep 2000; done"
ROUNDS = 8
CLIENTS = 3
MODES = ("bridge", "none")
KILLED = 128 + signal.SIGKILL


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Pyker(tmp_path / "engine")
    engine.start()
    engine.request("POST", f"/images/create?fromImage={BUSYBOX}&tag=latest")
    yield engine
    engine.stop()


@dataclass
class Promised:
    """How far one container's client came: of each step, whether it was asked for, and whether that was answered."""

    asked: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)


class Clients:
    """They create, start, kill and remove containers until the daemon is gone, or they are told to stop."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.promised: dict[str, Promised] = {}
        self.refused: list[tuple[str, Reply]] = []
        self._engine = engine
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(f"c{number}", random.Random(f"{seed}-{number}")))
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _work(self, prefix: str, chance: random.Random) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self._one(f"{prefix}-{number}", chance)
            except (OSError, HTTPException):
                return

    def _one(self, name: str, chance: random.Random) -> None:
        promised = self.promised[name] = Promised()

        def ask(step: str, method: str, path: str, body: object = None, status: int = 204) -> None:
            promised.asked.append(step)
            reply = self._engine.request(method, path, body)
            if reply.status != status:
                self.refused.append((f"{step} {name}", reply))
                raise OSError
            promised.answered.append(step)

        body = {"Image": BUSYBOX, "Cmd": ["sh", "-c", COUNT], "HostConfig": {"NetworkMode": chance.choice(MODES)}}
        ask("create", "POST", f"/containers/create?name={name}", body, 201)
        ask("start", "POST", f"/containers/{name}/start")
        if chance.random() < 0.5:
            ask("kill", "POST", f"/containers/{name}/kill")
            ask("wait", "POST", f"/containers/{name}/wait", status=200)
            if chance.random() < 0.6:
                ask("remove", "DELETE", f"/containers/{name}")


def broken(engine: Engine, promised: dict[str, Promised]) -> list[str]:
    """The promises that do not hold."""
    found: list[str] = []
    listed = engine.request("GET", "/containers/json?all=1").json()
    assert isinstance(listed, list)
    there = {each["Names"][0][1:] for each in listed}
    for name, steps in promised.items():
        if name not in there:
            if "create" in steps.answered and "remove" not in steps.asked:
                found.append(f"{name} is lost")
            continue
        if "remove" in steps.answered:
            found.append(f"{name} was removed, and is there")
        state = engine.state(name)
        if "wait" in steps.answered and (state["Running"] or state["ExitCode"] != KILLED):
            found.append(f"{name} was killed, and is {state}")
        if "start" in steps.answered and "kill" not in steps.asked and not state["Running"]:
            found.append(f"{name} was started, and is {state}")
        if state["Running"] and not os.path.exists(f"/proc/{state['Pid']}"):
            found.append(f"{name} is said to run, and does not")
        reply = engine.request("GET", f"/containers/{name}/logs?stdout=1")
        said = b"".join(data for _, data in Demultiplexer().feed(reply.body))
        lines = said.split(b"\n")[:-1]
        if lines != [b"%d" % number for number in range(len(lines))]:
            found.append(f"{name} said things that its log lacks: {len(lines)} lines up to {lines[-1]!r}")
    return found


def kill_launcher(engine: Engine) -> None:
    for child in own_children(engine.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/comm").read_text() == "pyker-launcher\n":
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("victims", ["daemon", "daemon and launcher", "launcher"])
def test_promises_hold_whenever_somebody_is_killed(engine: Engine, victims: str) -> None:
    seed = int(time.time())
    chance = random.Random(seed)
    for number in range(ROUNDS):
        clients = Clients(engine, chance.randrange(1 << 30))
        time.sleep(chance.uniform(0.05, 0.6))
        if "launcher" in victims:
            kill_launcher(engine)
        if "daemon" in victims:
            engine.kill()
            clients.end()
            engine.start()
        else:
            time.sleep(chance.uniform(0.05, 0.3))
            clients.end()
        assert (clients.refused, broken(engine, clients.promised)) == ([], []), f"seed {seed}, round {number}"
        engine.remove_containers()
