"""The measurements. Each returns rows of one figure an engine; engines take turns, so both see the same machine."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.bed import TCP_PORT, Bed, Bench, cpu_seconds, family, private_bytes, pss_bytes, pyker_cli, resident_bytes
from bench.idle import IdleEngine
from tests.support.sandbox import children, wait_until

_NETWORKS = ("bridge", "none", "host")


@dataclass
class Row:
    """One line of the report. ``values`` are by engine; ``target`` is the ratio of Pyker to the reference."""

    name: str
    unit: str
    values: dict[str, float]
    target: str
    better: str = "less"
    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Pyker's figure over the reference's."""
        if "docker" not in self.values or not self.values["docker"]:
            return None
        return self.values["pyker"] / self.values["docker"]


def _turns(bed: Bed, count: int, one: Callable[[Bench], float], *, warm: int = 2) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {kind: [] for kind in bed.benches}
    for turn in range(count + warm):
        for kind, bench in bed.benches.items():
            value = one(bench)
            if turn >= warm:
                samples[kind].append(value)
    return samples


def _row(name: str, unit: str, samples: dict[str, list[float]], target: str, better: str = "less") -> Row:
    return Row(name, unit, {kind: statistics.median(v) for kind, v in samples.items()}, target, better, samples)


def _timed(command: list[str], bench: Bench, host: str = "") -> float:
    env = {**bench.engine.environment(), "DOCKER_HOST": host or bench.engine.host}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    taken = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise RuntimeError(f"{command} exited {done.returncode}: {done.stderr.decode()}")
    return taken


def run(bed: Bed, scale: float) -> list[Row]:
    """``docker run --rm busybox true`` with the stock CLI, as a whole process; then what of it the engine takes."""
    rows = []
    for network in _NETWORKS:
        samples = _turns(
            bed,
            max(5, int(30 * scale)),
            lambda bench, network=network: _timed(  # type: ignore[misc]
                ["docker", "run", "--rm", "--network", network, bench.image, "true"], bench
            ),
        )
        rows.append(_row(f"docker run --rm busybox true ({network})", "ms", samples, "1/6"))
    own = _row(
        "the same against an engine that does nothing: the client's own share",
        "ms",
        _idle(bed, scale, "run", "--rm", "--network", "none"),
        "",
    )
    rest = [
        Row(f"the rest of it, which is the engine's ({network})", "ms", _less(row, own), "1/10")
        for network, row in zip(_NETWORKS, rows, strict=True)
    ]
    return [*rows, own, *rest]


def _idle(bed: Bed, scale: float, *command: str) -> dict[str, list[float]]:
    """One figure for both engines: neither has a part in it."""
    bench = next(iter(bed.benches.values()))
    with tempfile.TemporaryDirectory(prefix="pyker-idle-") as folder, IdleEngine(Path(folder)) as idle:
        samples = [
            _timed(["docker", *command, "bench-idle", "true"], bench, idle.host)
            for _ in range(max(5, int(30 * scale)) + 2)
        ][2:]
    return dict.fromkeys(bed.benches, samples)


def _less(row: Row, share: Row) -> dict[str, float]:
    return {kind: value - share.values[kind] for kind, value in row.values.items()}


def exec_(bed: Bed, scale: float) -> list[Row]:
    """``docker exec`` in a running container; then what of it the engine takes."""
    for bench in bed.benches.values():
        bench.engine.docker("run", "-d", "--name", "bench-exec", bench.image, "sleep", "600", check=True)
    try:
        samples = _turns(
            bed, max(5, int(30 * scale)), lambda bench: _timed(["docker", "exec", "bench-exec", "true"], bench)
        )
    finally:
        for bench in bed.benches.values():
            bench.engine.request("DELETE", "/containers/bench-exec?force=1")
    row = _row("docker exec C true", "ms", samples, "1/3")
    own = _row(
        "the same against an engine that does nothing: the client's own share", "ms", _idle(bed, scale, "exec"), ""
    )
    return [row, own, Row("the rest of it, which is the engine's", "ms", _less(row, own), "")]


class _Keep:
    """One kept connection to the engine's socket."""

    def __init__(self, bench: Bench) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(bench.engine.socket)
        self._http = http.client.HTTPConnection("localhost")
        self._http.sock = self._sock

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        self._http.request(method, path, body=data, headers={"Content-Type": "application/json"} if data else {})
        reply = self._http.getresponse()
        content = reply.read()
        if reply.status >= 400:
            raise RuntimeError(f"{method} {path}: {reply.status} {content!r}")
        return json.loads(content) if content.strip() else None

    def close(self) -> None:
        self._http.close()
        self._sock.close()


def api(bed: Bed, scale: float) -> list[Row]:
    """create + start + wait + remove over one connection."""
    rows = []
    for network in ("bridge", "none", "host"):

        def one(bench: Bench, network: str = network) -> float:
            ask = _Keep(bench)
            began = time.perf_counter()
            body = {"Image": bench.image, "Cmd": ["true"], "HostConfig": {"NetworkMode": network}}
            made = ask("POST", "/containers/create", body)
            ask("POST", f"/containers/{made['Id']}/start")
            ask("POST", f"/containers/{made['Id']}/wait")
            ask("DELETE", f"/containers/{made['Id']}")
            taken = (time.perf_counter() - began) * 1000
            ask.close()
            return taken

        rows.append(
            _row(
                f"create + start + wait + remove, raw API ({network})",
                "ms",
                _turns(bed, max(5, int(30 * scale)), one),
                "",
            )
        )
    return rows


def crowd(bed: Bed, scale: float) -> list[Row]:
    """Fifty containers started at once, each from a thread of its own, until the last has started."""
    count = 50

    def one(bench: Bench) -> float:
        ask = _Keep(bench)
        names = []
        for _ in range(count):
            body = {"Image": bench.image, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "bridge"}}
            names.append(ask("POST", "/containers/create", body)["Id"])
        failures: list[BaseException] = []

        def start(name: str) -> None:
            try:
                mine = _Keep(bench)
                mine("POST", f"/containers/{name}/start")
                mine.close()
            except BaseException as error:  # noqa: BLE001 (carried to the caller)
                failures.append(error)

        threads = [threading.Thread(target=start, args=(name,)) for name in names]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = (time.perf_counter() - began) * 1000
        for name in names:
            ask("DELETE", f"/containers/{name}?force=1")
        ask.close()
        if failures:
            raise failures[0]
        return taken

    return [_row(f"{count} starts at once (bridge)", "ms", _turns(bed, max(1, int(3 * scale)), one, warm=0), "")]


WATCHED = {"that is quiet": ["sleep", "600"], "that has spoken": ["sh", "-c", "echo spoken; exec sleep 600"]}


def memory(bed: Bed, scale: float) -> list[Row]:
    """Private memory of what watches one container, and of all daemons and helpers at rest."""
    rest: dict[str, list[float]] = {}
    resident: dict[str, list[float]] = {}
    private: dict[str, dict[str, list[float]]] = {state: {} for state in WATCHED}
    shared: dict[str, dict[str, list[float]]] = {state: {} for state in WATCHED}
    for kind, bench in bed.benches.items():
        # At rest means that what only works while layers come has gone again.
        wait_until(lambda bench=bench: not _workers(bench), timeout=60, what="the end of idle workers", every=0.2)
        rest[kind] = [sum(private_bytes(pid) for pid in family(bench.engine)) / 1e6]
        resident[kind] = [sum(resident_bytes(pid) for pid in family(bench.engine)) / 1e6]
        for state, command in WATCHED.items():
            names = [f"bench-memory{number}" for number in range(8)]
            for name in names:
                bench.engine.docker("run", "-d", "--name", name, bench.image, *command, check=True)
            if "sh" in command:
                _await_logs(bench, names)
            watchers = _watchers(bench, len(names))
            private[state][kind] = [private_bytes(pid) / 1e6 for pid in watchers]
            shared[state][kind] = [pss_bytes(pid) / 1e6 for pid in watchers]
            for name in names:
                bench.engine.request("DELETE", f"/containers/{name}?force=1")
    rows = []
    for state in WATCHED:
        what = f"monitor or shim of one container {state}"
        rows.append(_row(f"{what}, private memory", "MB", private[state], "1/6"))
        rows.append(_row(f"{what}, PSS", "MB", shared[state], ""))
    return [
        *rows,
        _row("daemon with all its helpers at rest, private memory", "MB", rest, "1/2"),
        _row("daemon with all its helpers at rest, resident memory", "MB", resident, ""),
    ]


def _await_logs(bench: Bench, names: list[str]) -> None:
    wait_until(
        lambda: all("spoken" in bench.engine.docker("logs", name).out for name in names),
        timeout=30,
        what="output in every log",
        every=0.1,
    )


def _watchers(bench: Bench, count: int) -> list[int]:
    """Who watches ``count`` containers of one process each, once whoever helped to start them is gone."""
    pattern = "containerd-shim" if bench.engine.kind == "docker" else r"^pyker-m:"
    namespace = os.readlink(f"/proc/{bench.engine.sandbox.pid}/ns/mnt")

    def settled() -> bool:
        found = _named(pattern, namespace)
        return len(found) == count and all(len(children(pid)) == 1 for pid in found)

    wait_until(settled, timeout=30, what=f"one watcher for each of {count} containers", every=0.1)
    return _named(pattern, namespace)


def _workers(bench: Bench) -> bool:
    for pid in family(bench.engine):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if "pyker.graphdriver" in command:
            return True
    return False


def _named(pattern: str, mount_namespace: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                name = Path(f"/proc/{entry}/comm").read_text() + Path(f"/proc/{entry}/cmdline").read_text()
                own = os.readlink(f"/proc/{entry}/ns/mnt") == mount_namespace
            except OSError:
                continue
            if own and re.search(pattern, name):
                found.append(int(entry))
    return found


def pull(bed: Bed, scale: float) -> list[Row]:
    """Pull of an image of 200 MiB in eight layers from a registry on loopback."""
    cpu: dict[str, list[float]] = {kind: [] for kind in bed.benches}

    def one(bench: Bench) -> float:
        before = cpu_seconds(bench.engine)
        taken = _timed(["docker", "pull", "-q", bench.big], bench) / 1000
        cpu[bench.engine.kind].append(cpu_seconds(bench.engine) - before)
        bench.engine.docker("rmi", bench.big, check=True)
        return taken

    wall = _turns(bed, max(2, int(5 * scale)), one, warm=1)
    return [
        _row("pull of 200 MiB in 8 layers, wall", "s", wall, "1"),
        _row("pull of 200 MiB in 8 layers, CPU", "s", cpu, ""),
    ]


def ping(bed: Bed, scale: float) -> list[Row]:
    """GET /_ping over kept connections, as many as one wrk thread can ask."""

    def one(bench: Bench) -> float:
        seconds = max(1, int(4 * scale))
        done = bench.engine.sandbox.run(
            ["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{TCP_PORT}/_ping"], timeout=60
        )
        found = re.search(rb"Requests/sec:\s*([\d.]+)", done.stdout)
        if found is None or b"Non-2xx" in done.stdout:
            raise RuntimeError(done.stdout.decode())
        return float(found[1])

    return [_row("GET /_ping", "1/s", _turns(bed, max(2, int(5 * scale)), one, warm=1), "2", "more")]


def ps(bed: Bed, scale: float) -> list[Row]:
    """``pyker ps`` and ``docker ps`` as whole processes, each against its own engine, with ten containers."""
    for bench in bed.benches.values():
        for number in range(10):
            bench.engine.docker("create", "--name", f"bench-ps{number}", bench.image, check=True)
    own = pyker_cli()
    try:
        samples = _turns(
            bed,
            max(5, int(40 * scale)),
            lambda bench: _timed([*(own if bench.engine.kind == "pyker" else ["docker"]), "ps", "-a"], bench),
        )
    finally:
        for bench in bed.benches.values():
            for number in range(10):
                bench.engine.request("DELETE", f"/containers/bench-ps{number}?force=1")
    return [_row("pyker ps -a against docker ps -a, whole process", "ms", samples, "2")]


def steps(bed: Bed) -> list[dict[str, Any]]:
    """Where the time goes in one ``docker run``: the jobs of the last of twenty runs, with their times."""
    bench = bed.benches["pyker"]
    name = ""
    for _ in range(20):
        name = bench.engine.docker("run", "-d", bench.image, "true", check=True).out.strip()
        bench.engine.docker("wait", name, check=True)
        bench.engine.docker("rm", name, check=True)
    wait_until(lambda: bench.engine.request("GET", f"/pyker/jobs/{name}").status == 200, what="the journal")
    reply = bench.engine.request("GET", f"/pyker/jobs/{name}")
    value = reply.json()
    return value if isinstance(value, list) else [{"reply": value}]


ALL: dict[str, Callable[[Bed, float], list[Row]]] = {
    "memory": memory,
    "run": run,
    "exec": exec_,
    "api": api,
    "crowd": crowd,
    "pull": pull,
    "ping": ping,
    "ps": ps,
}
