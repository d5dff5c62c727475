"""The journal: what it keeps, what it doesn't, its bounds, and the stories that it tells."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from pyker.engine.engine import Engine
from pyker.engine.job import Actor, Job, JobContext
from pyker.engine.journal import Journal
from pyker.errors import NotFound
from pyker.jobs.containers import AttachContainer, ContainerCreated, CreateContainer, StartContainer
from pyker.jobs.images import Pull, RegistryAuth
from pyker.jobs.system import Auth, AuthResult
from pyker.types.config import ContainerConfig, HostConfig

CONTAINER = "ab" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Job[None]):
    name: ClassVar[str] = "step"
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Job[None]):
    name: ClassVar[str] = "quiet"
    journaled: ClassVar[bool] = False


def _engine(path: Path, **bounds: int) -> Engine:
    engine = Engine(Journal(str(path / "jobs.db"), **bounds))
    engine.register(Step, lambda job, ctx: None)
    engine.register(Quiet, lambda job, ctx: None)
    return engine


def test_a_run_leaves_a_record_with_its_tree(tmp_path: Path) -> None:
    def start(job: StartContainer, ctx: JobContext) -> None:
        ctx.run(Step(number=1))
        ctx.run(Step(number=2))

    with _engine(tmp_path) as engine:
        engine.register(StartContainer, start)
        engine.run(StartContainer(container="web"), actor=Actor(kind="unix", uid=1000, pid=77))
        (root,) = engine.jobs()
        assert (root.name, root.status, root.actor, root.arguments) == (
            "start",
            "done",
            "uid=1000 pid=77",
            {"container": "web"},
        )
        assert root.ended_ns > root.started_ns > 0
        tree = engine.jobs(tree=root.job_id)
        assert [(record.name, record.parent_id) for record in tree] == [
            ("start", None),
            ("step", root.job_id),
            ("step", root.job_id),
        ]
        assert [record.job_id for record in engine.jobs(tree=root.job_id[:14].lower())] == [r.job_id for r in tree]


@pytest.mark.claim("job-error-handling")
def test_failures_are_kept_with_their_words(tmp_path: Path) -> None:
    def fail(job: StartContainer, ctx: JobContext) -> None:
        raise NotFound("No such container: web")

    with _engine(tmp_path) as engine:
        engine.register(StartContainer, fail)
        with pytest.raises(NotFound):
            engine.run(StartContainer(container="web"))
        (record,) = engine.jobs()
        assert (record.status, record.error) == ("failed", "No such container: web")


def test_secrets_never_reach_the_file(tmp_path: Path) -> None:
    with _engine(tmp_path) as engine:
        engine.register(CreateContainer, lambda job, ctx: ContainerCreated(id=CONTAINER))  # type: ignore[arg-type]
        engine.register(Pull, lambda job, ctx: (_ for _ in ()).throw(NotFound("no")))
        engine.register(Auth, lambda job, ctx: AuthResult(status="ok"))
        engine.run(
            CreateContainer(
                config=ContainerConfig(image="bb:1", env=("TOKEN=hunter2", "A=1")), host_config=HostConfig()
            )
        )
        with pytest.raises(NotFound):
            engine.run(
                Pull(
                    image="x",
                    auth=RegistryAuth(username="me", password="hunter2"),
                    meta_headers={"X-Meta-Token": "hunter2"},
                )
            )
        engine.run(Auth(username="me", password="hunter2", identity_token="hunter2"))
        create = engine.jobs()[-1]
    content = b"".join(entry.read_bytes() for entry in tmp_path.iterdir())
    assert b"bb:1" in content
    assert b"hunter2" not in content
    assert create.arguments["config"] == {"Env": ["TOKEN=***", "A=***"], "Image": "bb:1"}


def test_jobs_that_ask_not_to_be_journaled_are_not(tmp_path: Path) -> None:
    with _engine(tmp_path) as engine:
        engine.run(Quiet())
        assert engine.jobs() == ()


def test_long_arguments_are_cut(tmp_path: Path) -> None:
    with _engine(tmp_path) as engine:
        engine.register(CreateContainer, lambda job, ctx: ContainerCreated(id=CONTAINER))  # type: ignore[arg-type]
        labels = {f"label{number}": "x" * 300 for number in range(200)}
        engine.run(
            CreateContainer(
                config=ContainerConfig(labels=labels), host_config=HostConfig(), container_name="n" * 10_000
            )
        )
        (record,) = engine.jobs()
        assert record.arguments["truncated"] is True
        assert len(str(record.arguments["container_name"])) < 300


def test_the_number_of_rows_is_bounded_and_the_oldest_trees_go_first(tmp_path: Path) -> None:
    def start(job: StartContainer, ctx: JobContext) -> None:
        ctx.run(Step())

    with _engine(tmp_path, max_rows=200) as engine:
        engine.register(StartContainer, start)
        journal = engine._journal
        assert journal is not None
        for number in range(500):
            engine.run(StartContainer(container=f"c{number}"))
            if number % 20 == 0:
                journal.flush()
        journal.flush()
    rows = sqlite3.connect(tmp_path / "jobs.db").execute("SELECT parent, root, arguments FROM jobs").fetchall()
    assert 50 < len(rows) <= 220
    roots = {row[1] for row in rows if row[0] is None}
    assert {row[1] for row in rows} == roots
    assert any("c499" in row[2] for row in rows)
    assert not any('"c0"' in row[2] for row in rows)


def test_what_ran_when_the_daemon_died_is_lost(tmp_path: Path) -> None:
    def look(job: StartContainer, ctx: JobContext) -> None:
        journal.flush()
        for name in os.listdir(tmp_path):
            (tmp_path / "after").mkdir(exist_ok=True)
            if name.startswith("jobs.db"):
                (tmp_path / "after" / name).write_bytes((tmp_path / name).read_bytes())

    with _engine(tmp_path) as engine:
        found = engine._journal
        assert found is not None
        journal = found
        engine.register(StartContainer, look)
        engine.run(StartContainer(container="web"))
    with Engine(Journal(str(tmp_path / "after" / "jobs.db"))) as second:
        (record,) = second.jobs()
        assert record.status == "lost"
        assert record.ended_ns > 0


def test_a_broken_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"this is no database" * 1000)
    with _engine(tmp_path) as engine:
        engine.run(Step())
        assert len(engine.jobs()) == 1
    assert (tmp_path / "jobs.db.broken").exists()


def test_a_file_that_cannot_be_written_costs_no_job(tmp_path: Path) -> None:
    with _engine(tmp_path) as engine:
        journal = engine._journal
        assert journal is not None
        journal._db.execute("PRAGMA query_only=1")
        engine.run(Step())
        journal.flush()
        journal._db.execute("PRAGMA query_only=0")
        engine.run(Step())
        assert len(engine.jobs()) == 1


def test_a_containers_story_is_told_by_id_prefix_and_name_and_holds_the_pull_before_it(tmp_path: Path) -> None:
    client = Actor(kind="unix", uid=0, pid=4242)
    present = False

    def create(job: CreateContainer, ctx: JobContext) -> ContainerCreated:
        if not present:
            raise NotFound("No such image: bb:1")
        ctx.subject = CONTAINER
        return ContainerCreated(id=CONTAINER)  # type: ignore[arg-type]

    def about(job: StartContainer | AttachContainer, ctx: JobContext) -> None:
        ctx.subject = CONTAINER

    with _engine(tmp_path) as engine:
        engine.register(CreateContainer, create)
        engine.register(Pull, lambda job, ctx: None)  # type: ignore[arg-type,return-value]
        engine.register(StartContainer, about)
        engine.register(AttachContainer, about)
        request = CreateContainer(config=ContainerConfig(image="bb:1"), host_config=HostConfig(), container_name="web")
        engine.run(Step(), actor=client)
        with pytest.raises(NotFound):
            engine.run(request, actor=client)
        engine.run(Pull(image="bb", tag="1"), actor=client)
        present = True
        engine.run(request, actor=client)
        engine.run(AttachContainer(container=CONTAINER), actor=client)
        engine.run(StartContainer(container=CONTAINER), actor=client)
        told = ["create", "pull", "create", "attach", "start"]
        for name in (CONTAINER, CONTAINER[:12], "web", "/web"):
            assert [record.name for record in engine.jobs(tree=name)] == told
        start = engine.jobs()[0]
        assert [record.name for record in engine.jobs(tree=start.job_id)] == told
        for image in ("bb:1", "docker.io/library/bb:1"):
            assert [record.name for record in engine.jobs(tree=image)] == ["pull"]
        assert engine.jobs(tree="nosuch") == ()
