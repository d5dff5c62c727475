"""The test bed: each engine in namespaces of its own, each with a registry and the same images."""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import engines, images
from tests.support.engines import Engine
from tests.support.registry import Registry
from tests.support.sandbox import children

REFERENCE, PYKER = "docker", "pyker"
TCP_PORT = 2375
BIG_LAYERS = 8
BIG_BYTES = 200 * 1024 * 1024


@dataclass
class Bench:
    """One engine with its registry; ``image`` is busybox, pulled; ``big`` is a reference not yet pulled."""

    engine: Engine
    registry: Registry
    image: str
    big: str


class Bed:
    """Starts Pyker and ``reference``, an engine as tests name it or "" for none; closing it takes everything away.

    ``benches`` are by what an engine is here: REFERENCE, PYKER.
    """

    def __init__(self, folder: Path, *, reference: str = "docker") -> None:
        self.benches: dict[str, Bench] = {}
        kinds = {REFERENCE: reference, PYKER: "pyker"} if reference else {PYKER: "pyker"}
        small = images.make(folder / "small", label="bench")
        big = make_big(folder / "big")
        for kind, specification in kinds.items():
            engine = engines.find(specification)(folder / kind, flags=["--host", f"tcp://127.0.0.1:{TCP_PORT}"])
            engine.start()
            registry = Registry(folder / f"registry-{kind}", engine.sandbox)
            image = registry.push(small, "bench/busybox:1")
            engine.docker("pull", "-q", image, check=True)
            self.benches[kind] = Bench(engine, registry, image, registry.push(big, "bench/big:1"))

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *_: object) -> None:
        for bench in self.benches.values():
            bench.registry.close()
            bench.engine.stop()

    def facts(self) -> dict[str, str]:
        """What a reader must know of the machine."""
        docker = self.benches.get("docker")
        version = docker.engine.docker("version", "--format", "{{.Server.Version}}").out.strip() if docker else "-"
        client = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout.strip()
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        ).stdout.strip()
        return {
            "kernel": platform.release(),
            "cores": str(os.cpu_count()),
            "python": platform.python_version(),
            "reference": f"dockerd {version}",
            "client": client,
            "commit": commit,
        }


def make_big(folder: Path) -> Path:
    """An image of 200 MiB in eight layers of files that compress about as well as programs do."""
    rng = random.Random(7)
    words = [rng.randbytes(rng.randint(3, 40)) for _ in range(4000)]

    def layer(number: int) -> images.Build:
        def build(tar: tarfile.TarFile) -> None:
            images.add_dir(tar, f"data{number}")
            left = BIG_BYTES // BIG_LAYERS
            count = 0
            while left > 0:
                size = min(left, rng.choice([900, 4000, 20_000, 60_000, 400_000, 2_000_000]))
                content = bytearray()
                while len(content) < size:
                    content += rng.choice(words) if rng.random() < 0.8 else rng.randbytes(16)
                images.add_file(tar, f"data{number}/file{count}", bytes(content[:size]))
                left -= size
                count += 1

        return build

    return images.make(folder, layers=[layer(number) for number in range(BIG_LAYERS)], label="big")


def family(engine: Engine) -> list[int]:
    """The daemon and all that it started."""
    return [engine.pid, *children(engine.pid)]


def private_bytes(pid: int) -> int:
    """Memory that only this process holds. Source: proc(5) smaps_rollup, Private_Clean + Private_Dirty."""
    return _rollup(pid, ("Private_Clean:", "Private_Dirty:"))


def pss_bytes(pid: int) -> int:
    """Memory with shared pages divided among those who share them. Source: proc(5) smaps_rollup, Pss."""
    return _rollup(pid, ("Pss:",))


def resident_bytes(pid: int) -> int:
    """Memory in use, shared pages counted whole. Source: proc(5) smaps_rollup, Rss."""
    return _rollup(pid, ("Rss:",))


def _rollup(pid: int, keys: tuple[str, ...]) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith(keys))
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0


def cpu_seconds(engine: Engine) -> float:
    """CPU time of the daemon's family, ended children included."""
    ticks = 0
    for pid in family(engine):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(fields[index]) for index in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK")


def pyker_cli() -> list[str]:
    """Pyker's client as it is installed."""
    script = Path(sys.executable).with_name("pyker")
    return [str(script)] if script.exists() else [sys.executable, "-m", "pyker"]
