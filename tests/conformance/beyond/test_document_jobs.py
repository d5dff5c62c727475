"""What the document says of the engine's inside, which no other engine shows: jobs, GraphDB, one executable."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Shelf
from tests.support import images
from tests.support.engines import Engine
from tests.support.sandbox import wait_until

pytestmark = pytest.mark.only_pyker


def jobs(engine: Engine, about: str = "") -> list[dict[str, Any]]:
    """The newest first; or one story, oldest first."""
    path = f"/pyker/jobs/{about}" if about else "/pyker/jobs?limit=200"
    value = engine.request("GET", path).json()
    assert isinstance(value, list)
    return value


def last(engine: Engine, name: str) -> dict[str, Any]:
    return next(each for each in jobs(engine) if each["Name"] == name)


@pytest.mark.claim("serveapi-is-a-job", "serveapi-one-of-many", "job-serve-http", "overview-server-accepts")
def test_the_server_is_a_job_among_others(engine: Engine) -> None:
    """An endless one: it runs as long as it serves."""
    server = last(engine, "serveapi")
    assert (server["Status"], server["Actor"]) == ("running", "engine")
    assert server["Arguments"]["hosts"] == [engine.host]
    assert len({each["Name"] for each in jobs(engine)}) > 1


@pytest.mark.claim("job-name", "job-arguments", "job-status", "job-smallest-unit", "overview-work-is-jobs",
                   "engine-runs-jobs", "daemon-three-parts",
                   "job-of-the-clients-arguments", "engine-handlers", "engine-create-handler", "run-first-job",
                   "run-second-job", "summary-handler-makes-job")  # fmt: skip
def test_each_request_is_a_job_with_the_clients_arguments(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("create", "--name", name, "-e", "A=b", busybox, "true", check=True)
    created = last(engine, "create")
    assert created["Status"] == "done" and created["Arguments"]["container_name"] == name
    assert created["Arguments"]["config"]["Image"] == busybox
    # What may be a secret is not written down.
    assert created["Arguments"]["config"]["Env"] == ["A=***"]
    assert created["Actor"].startswith(f"uid={os.getuid()} ")
    for verb in (
        ["start", name],
        ["wait", name],
        ["rename", name, f"{name}-x"],
        ["rename", f"{name}-x", name],
        ["rm", name],
    ):
        engine.docker(*verb, check=True)
    for job in ("start", "rename", "rm"):
        assert last(engine, job)["Status"] == "done", job


@pytest.mark.claim("job-error-handling", "job-status")
def test_a_job_that_fails_says_why(engine: Engine) -> None:
    engine.docker("create", "nosuch:1", "--pull", "never")
    engine.request("POST", "/containers/create", {"Image": "nosuch:1"})
    failed = last(engine, "create")
    assert (failed["Status"], failed["Error"]) == ("failed", "No such image: nosuch:1")


@pytest.mark.claim("registry-job-pull", "registry-job-push", "registry-job-search", "job-download", "pull-step-job",
                   "registry-remote-and-local", "registry-stores-images", "shape-jobs-of-walkthroughs")  # fmt: skip
def test_search_pull_and_push_are_jobs_of_these_names(engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add("jobs/image:1", label="jobs")
    target = f"{shelf.registry.address}/jobs/target:1"
    engine.docker("pull", reference, check=True)
    pulled = last(engine, "pull")
    assert (pulled["Status"], pulled["Subject"]) == ("done", reference)
    assert [each["Name"] for each in jobs(engine, pulled["ID"])][1:] == ["pull_layer"] * (
        len(jobs(engine, pulled["ID"])) - 1
    )
    engine.docker("tag", reference, target, check=True)
    engine.docker("push", target, check=True)
    assert (last(engine, "push")["Status"], last(engine, "push")["Subject"]) == ("done", target)
    engine.docker("search", "pyker.local/busy", check=True)
    assert last(engine, "search")["Arguments"]["term"] == "pyker.local/busy"
    engine.docker("rmi", reference, target, check=True)


@pytest.mark.claim("job-run-is-create-then-start", "exec-allocates-by-job", "run-second-exec-job", "run-second-netlink",
                   "overview-libcontainer-acts", "run-second-libcontainer", "shape-jobs-of-walkthroughs",
                   "job-process-in-container")  # fmt: skip
def test_a_run_is_a_create_and_a_start_with_its_own_jobs(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "--name", name, busybox, "true", check=True)
    story = jobs(engine, name)
    names = [each["Name"] for each in story]
    assert (
        names.index("create") < names.index("start") < names.index("allocate_interface") < names.index("execdriver_run")
    )
    start = next(each for each in story if each["Name"] == "start")
    children = [each["Name"] for each in story if each["ParentID"] == start["ID"]]
    assert children == ["mount_rootfs", "allocate_interface", "execdriver_run"]
    done = engine.pyker("jobs", "--tree", name, check=True)
    assert "networkdriver → libcontainer/netlink" in done.out and "execdriver → libcontainer" in done.out


def graph(engine: Engine, query: str, *values: str) -> list[tuple[str, ...]]:
    path = engine.data_root / "image" / "overlay2" / "graph.db"
    assert path.read_bytes()[:15] == b"SQLite format 3"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(query, values).fetchall()


@pytest.mark.claim("graphdb-sqlite", "graphdb-names", "graphdb-edges", "graphdb-notes-relations",
                   "graphdb-simple-interface", "summary-layer-relations", "pull-step-driver")  # fmt: skip
def test_graphdb_has_the_nodes_names_and_edges_of_an_image(engine: Engine, busybox: str, name: str) -> None:
    image: Any = engine.request("GET", f"/images/{busybox}/json").json()
    engine.docker("create", "--name", name, busybox, check=True)
    container = str(engine.inspect(name)["Id"])
    named = "SELECT entity FROM name WHERE kind = 'image' AND name = ?"
    wait_until(lambda: graph(engine, named, busybox) == [(image["Id"],)], what="the name of the image")
    assert graph(engine, "SELECT kind FROM entity WHERE id = ?", image["Id"]) == [("image",)]
    edges = graph(engine, "SELECT label, target FROM edge WHERE source = ?", image["Id"])
    layer = image["RootFS"]["Layers"][0]
    assert ("layer", layer) in edges and graph(engine, "SELECT kind FROM entity WHERE id = ?", layer) == [("layer",)]
    using = "SELECT source FROM edge WHERE target IN (?, ?)"
    wait_until(lambda: (container,) in graph(engine, using, layer, image["Id"]), what="the container's edge")


@pytest.mark.claim("graphdb-notes-relations", "graph-layers", "graph-layer-order", "summary-layer-relations")
def test_graphdb_has_which_layer_is_below_which(engine: Engine, shelf: Shelf) -> None:
    layers = (images.busybox_layer, lambda tar: images.add_file(tar, "srv/above", b"jobs\n"))
    reference = shelf.add("jobs/layers:1", layers=layers, label="jobs layers")
    engine.docker("pull", "-q", reference, check=True)
    image: Any = engine.request("GET", f"/images/{reference}/json").json()
    above = "SELECT target FROM edge WHERE source = ? AND label = 'layer'"
    wait_until(lambda: len(graph(engine, above, image["Id"])) == 1, what="the image's edge")
    [(top,)] = graph(engine, above, image["Id"])
    assert graph(engine, "SELECT target FROM edge WHERE source = ? AND label = 'parent'", top) == [
        (image["RootFS"]["Layers"][0],)
    ]
    engine.docker("rmi", reference, check=True)
    gone = "SELECT id FROM entity WHERE id IN (?, ?)"
    wait_until(lambda: graph(engine, gone, image["Id"], top) == [], what="the end of both nodes")


@pytest.mark.claim("one-executable", "arguments-decide")
def test_one_executable_is_client_and_daemon(engine: Engine) -> None:
    running = Path(f"/proc/{engine.pid}/cmdline").read_bytes().split(b"\0")
    assert running[1:4] == [b"-m", b"pyker", b"daemon"]
    assert os.path.samefile(f"/proc/{engine.pid}/exe", os.path.realpath(sys.executable))
    assert engine.docker("version", "--format", "{{.Client.Version}}", cli=(sys.executable, "-m", "pyker")).code == 0


@pytest.mark.claim("execdriver-native", "execdriver-option", "libcontainer-without-lxc")
def test_native_is_the_default_and_can_be_asked_for(another: Callable[..., Engine]) -> None:
    own = another("--exec-driver", "native")
    assert own.docker("run", "--rm", "--network", "none", "pyker.local/busybox", "echo", "native").out == "native\n"
    family = set[str]()
    for pid in [own.pid, *own._descendants()]:
        # One that has just ended is not there any more.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            family.add(Path(f"/proc/{pid}/comm").read_text())
    assert family
    assert not any("lxc" in name for name in family)


@pytest.mark.claim("execdriver-lxc", "execdriver-option")
def test_lxc_can_be_asked_for(another: Callable[..., Engine]) -> None:
    own = another("--exec-driver", "lxc")
    assert own.docker("run", "--rm", "--network", "none", "pyker.local/busybox", "echo", "lxc").out == "lxc\n"
