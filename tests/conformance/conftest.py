"""``--engine docker --engine pyker``: every test runs on each engine named, each in namespaces of its own.

``compare`` asks a reference engine beside it the same. Engines start when a test first needs them, once a worker.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support import debian, engines, images
from tests.support.capabilities import has
from tests.support.compare import Alike, Comparison, Side
from tests.support.engines import Engine, Output
from tests.support.recorder import Recorder
from tests.support.registry import Registry
from tests.support.residue import Watch
from tests.support.results import FACT
from tests.support.transcript import Transcript

_numbers = itertools.count()

# What systemd does for a service with a socket unit: listen, put the socket at number 3, say so, become the service.
ACTIVATE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execvpe(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        action="append",
        type=engines.specification,
        help="engine under test: pyker, docker, podman, or a release such as docker:28; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--engine") or ["pyker"]
        if metafunc.definition.get_closest_marker("only_pyker"):
            kinds = [kind for kind in kinds if kind == "pyker"]
        metafunc.parametrize("engine", kinds, indirect=True, scope="session")


class Shelf:
    """The images that every test may use, in the registry beside one engine."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.registry = registry
        self._folder = folder
        self.busybox = self.add("test/busybox:1", label="busybox")

    def add(self, name: str, **build: object) -> str:
        """Make an image and push it as ``name``; returns the full reference."""
        layout = images.make(self._folder / f"image{next(_numbers)}", **build)  # type: ignore[arg-type]
        return self.registry.push(layout, name)


class Running:
    """The engines of this worker, with the images beside each, started when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[str, Side] = {}
        self.facts: dict[str, str] = {}
        self.watches: dict[str, Watch] = {}

    def start(self, kind: str, role: str = "") -> Side:
        """The engine ``kind``; a ``role`` makes it another one than the one without. Skips what cannot be here."""
        name = role or kind
        if name not in self._started:
            found = engines.find(kind)
            for capability in ("busybox", "docker-registry", "skopeo", "docker-cli", *found.needs):
                if not has(capability):
                    pytest.skip(f"needs {capability}")
            root = self._folder / name.replace(":", "-")
            # The folder's name is that of its cgroup too.
            try:
                made = found(root / root.name)
            except debian.Unavailable as error:
                pytest.fail(f"--engine {kind}: {error}", pytrace=False)
            try:
                made.start()
                shelf = Shelf(root / "images", Registry(root / "registry", made.sandbox))
            except BaseException:
                made.stop()
                raise
            self._started[name] = Side(made, shelf)
            self._learn(kind, made)
            # Some things are made by the first container and stay.
            for flags in (["-p", "80"], ["--network", "host"], ["--network", "none"]):
                made.docker("run", "--rm", *flags, shelf.busybox, "true", check=True)
            self.watches[name] = Watch(made)
            made.transcript = Transcript(role)
        return self._started[name]

    def _learn(self, kind: str, engine: Engine) -> None:
        info, version = (engine.request("GET", path).json() for path in ("/info", "/version"))
        assert isinstance(info, dict) and isinstance(version, dict)
        self.facts |= {f"{kind} graphdriver": info["Driver"], f"{kind} version": version["Version"]}

    def stop(self) -> None:
        """End them all."""
        for watch in self.watches.values():
            watch.close()
        for engine, shelf in self._started.values():
            assert isinstance(shelf, Shelf)
            shelf.registry.close()
            engine.stop()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The engines of this worker."""
    started = Running(tmp_path_factory.mktemp("engines"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, running: Running) -> Engine:
    """The engine under test."""
    return running.start(request.param).engine


@pytest.fixture(autouse=True)
def facts(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the results say of the engines."""
    yield
    if "running" in request.fixturenames:
        known = request.getfixturevalue("running").facts
        request.node.user_properties.extend((FACT + name, value) for name, value in known.items())


@pytest.fixture(autouse=True)
def no_residue(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves behind fails it. Torn down after all that the test asked for."""
    yield
    if "running" in request.fixturenames:
        watches = request.getfixturevalue("running").watches
        left = {name: leaks for name, watch in watches.items() if (leaks := watch.settle())}
        if left:
            pytest.fail(
                "\n".join(f"left behind on {name}: {each}" for name, leaks in left.items() for each in leaks),
                pytrace=False,
            )


@pytest.fixture
def compare(engine: Engine, running: Running) -> Iterator[Comparison]:
    """The reference engine and the engine under test, to be asked the same.

    The reference is another dockerd than the one under test, which shows that what the comparison leaves out is enough.
    """
    comparison = Comparison(
        running.start("docker", "reference"), running.start(engine.specification), f"c{next(_numbers)}"
    )
    yield comparison
    comparison.close()


@pytest.fixture
def alike(request: pytest.FixtureRequest, engine: Engine, running: Running) -> Iterator[Alike]:
    """The engine under test, and the reference engine too where this machine is to have one.

    A machine that says what it promises, as the lab's guests do, is asked for no more than that.
    """
    promised = os.environ.get("PYKER_PROMISED")
    here = has("dockerd") if promised is None else "dockerd" in promised.split(",")
    comparison: Comparison | None = request.getfixturevalue("compare") if here else None
    name = comparison.name if comparison is not None else f"c{next(_numbers)}"
    both = Alike(running.start(engine.specification), name, comparison)
    yield both
    both.close()


@pytest.fixture
def shelf(engine: Engine, running: Running) -> Shelf:
    """Images for the engine under test."""
    found = running.start(engine.specification).shelf
    assert isinstance(found, Shelf)
    return found


@pytest.fixture
def busybox(engine: Engine, shelf: Shelf) -> str:
    """A reference to a busybox image that the engine has pulled."""
    if engine.request("GET", f"/images/{shelf.busybox}/json").status != 200:
        engine.docker("pull", "-q", shelf.busybox, check=True)
    return shelf.busybox


@pytest.fixture
def another(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Starts further engines of the kind under test, with flags and environment variables of the test's own."""
    made: list[Engine] = []

    def start(*flags: str, env: Mapping[str, str] | None = None, activated: str = "") -> Engine:
        """``activated``: a listening unix socket at that path is handed over, as systemd does."""
        one = type(engine)(tmp_path / f"another{len(made)}", flags=flags)
        made.append(one)
        variables = {**one.environment(), **(env or {})}
        one.environment = lambda: variables  # type: ignore[method-assign]
        if activated:
            command = [sys.executable, "-c", ACTIVATE, activated, *one.command()]
            one.command = lambda: command  # type: ignore[method-assign]
        one.start()
        return one

    yield start
    for one in reversed(made):
        one.stop()


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A container name of the test's own; whatever has it afterwards is removed."""
    chosen = f"t{next(_numbers)}"
    yield chosen
    engine.request("DELETE", f"/containers/{chosen}?force=1&v=1")


@pytest.fixture
def names(engine: Engine) -> Iterator[Callable[[], str]]:
    """Container names as the test needs them; whatever has them afterwards is removed, the newest first."""
    chosen: list[str] = []

    def choose() -> str:
        chosen.append(f"t{next(_numbers)}")
        return chosen[-1]

    yield choose
    for name in reversed(chosen):
        engine.request("DELETE", f"/containers/{name}?force=1&v=1")


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    """A network name of the test's own; whatever has it afterwards is removed, with the containers on it."""
    chosen = f"n{next(_numbers)}"
    yield chosen
    reply = engine.request("GET", f"/networks/{chosen}")
    if reply.status == 200:
        value = reply.json()
        assert isinstance(value, dict)
        for container in value["Containers"]:
            engine.request("DELETE", f"/containers/{container}?force=1&v=1")
        engine.request("DELETE", f"/networks/{chosen}")


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """A volume name of the test's own; whatever has it afterwards is removed, with the containers that use it."""
    chosen = f"v{next(_numbers)}"
    yield chosen
    filters = quote(json.dumps({"volume": [chosen]}))
    rows = engine.request("GET", f"/containers/json?all=1&filters={filters}").json()
    assert isinstance(rows, list)
    for row in rows:
        engine.request("DELETE", f"/containers/{row['Id']}?force=1&v=1")
    engine.request("DELETE", f"/volumes/{chosen}?force=1")


@pytest.fixture
def repository(engine: Engine) -> Iterator[str]:
    """A repository of the test's own, in no registry; every image that has a name in it afterwards loses it."""
    chosen = f"own/r{next(_numbers)}"
    yield chosen
    rows = engine.request("GET", f"/images/json?filters={quote(json.dumps({'reference': [chosen]}))}").json()
    assert isinstance(rows, list)
    for row in rows:
        for tag in row["RepoTags"] or ():
            if tag.startswith(f"{chosen}:"):
                engine.request("DELETE", f"/images/{tag}?force=1")


@pytest.fixture
def recorder(engine: Engine, tmp_path: Path) -> Iterator[Recorder]:
    """A relay in front of the engine that notes the requests."""
    relay = Recorder(tmp_path, engine.socket)
    yield relay
    relay.close()


class Client:
    """A command line client: the stock docker CLI or Pyker's own. Calling it runs one command against the engine."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self._engine = engine
        self.argv = ("docker",) if name == "docker" else (sys.executable, "-m", "pyker")

    def __call__(self, *arguments: str, host: str = "", input: str | None = None, timeout: float = 60) -> Output:
        env = {"DOCKER_HOST": host} if host else None
        return self._engine.docker(*arguments, cli=self.argv, env=env, input=input, timeout=timeout)


@pytest.fixture(params=["docker", "pyker"])
def cli(request: pytest.FixtureRequest, engine: Engine) -> Client:
    """Both clients, one after the other."""
    return Client(str(request.param), engine)
