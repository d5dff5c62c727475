"""Start an engine in the background when none answers at the default socket. Seed: "Docker Daemon".

Two runs at once start only one: a lock beside the socket is held while looking again, starting and waiting.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pyker
from pyker.client.failure import Failure
from pyker.client.hosts import DEFAULT_HOST
from pyker.client.session import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyker.client.surroundings import Surroundings

RUN_DIR = "/run/pyker"
START_TIMEOUT_S = 30.0
TAIL = 2000


def start_daemon(around: Surroundings) -> bool:
    """Start one if that is wanted, and wait until it answers. False if it is not: another host, or we are not root."""
    if around.endpoint.explicit or os.geteuid() != 0:
        return False
    command = (sys.executable, "-m", "pyker", "daemon")
    pid = start_once(around, command, RUN_DIR)
    if pid:
        around.err(
            f"No engine answered at {DEFAULT_HOST}, so one was started in the background: pid {pid}.\n"
            f"It writes to {RUN_DIR}/daemon.log; stop it with: kill {pid}"
        )
    return True


def start_once(around: Surroundings, command: Sequence[str], folder: str) -> int:
    """Start ``command`` unless somebody else just did; returns its pid, or 0. Raises Failure if it does not come up."""
    os.makedirs(folder, mode=0o711, exist_ok=True)
    lock = os.open(f"{folder}/autostart.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers(around):
            return 0
        log = f"{folder}/daemon.log"
        with open(log, "ab") as output:
            begin = output.tell()
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(around):
            code = child.poll()
            if code is not None and not _answers(around):
                raise Failure(f"the engine ended with status {code} before it answered:\n{_tail(log, begin)}")
            if time.monotonic() > deadline:
                child.terminate()
                raise Failure(f"the engine did not answer in {START_TIMEOUT_S:.0f} seconds; see {log}")
            time.sleep(0.02)
        return child.pid
    finally:
        os.close(lock)


def _answers(around: Surroundings) -> bool:
    client = Client(around.endpoint)
    try:
        client.negotiate()
    except Failure:
        return False
    finally:
        client.close()
    return True


def _environment() -> dict[str, str]:
    """Ours, with the package's folder to import from where it was not installed, and without what names a daemon."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYKER_HOST", "DOCKER_HOST")}
    parent = os.path.dirname(os.path.dirname(os.path.abspath(pyker.__file__)))
    if os.path.basename(parent) not in ("site-packages", "dist-packages"):
        known = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{parent}:{known}" if known else parent
    return environment


def _tail(path: str, begin: int) -> str:
    with open(path, "rb") as stream:
        stream.seek(begin)
        return stream.read()[-TAIL:].decode("utf-8", "replace").rstrip()
