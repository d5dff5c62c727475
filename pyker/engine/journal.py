"""The journal: what every job did, when, for whom and how it ended, in a bounded SQLite database.

Nothing here is on a caller's path: ``note`` appends to a queue, and one thread writes what gathered there. A run that
the daemon's death interrupted stays "running" in the file; the next ``Journal`` on that file calls it "lost".
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from time import time_ns
from typing import Any, Protocol, cast

import msgspec

from pyker.engine.job import Job, JobRecord
from pyker.errors import InvalidParameter
from pyker.types import reference
from pyker.types.ids import JobId

log = logging.getLogger("pyker.engine.journal")

FLUSH_DELAY_S = 0.15
"""How long the writer lets entries gather: longer than a container's start, so that it takes no time from one."""

_ARGUMENTS_LIMIT = 4096
_STRING_LIMIT = 256
_LIST_LIMIT = 32
_ERROR_LIMIT = 2048
_QUEUE_LIMIT = 20_000
_STORY_LIMIT = 2_000

_SECRET_KEYS = frozenset(
    {"password", "auth", "identitytoken", "identity_token", "registrytoken", "registry_token", "authorization"}
    | {"meta_headers", "cookie", "secret", "token"}
)
_REDACTED = "***"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    parent TEXT,
    root TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    actor TEXT NOT NULL,
    arguments TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    status TEXT NOT NULL,
    error TEXT NOT NULL,
    stages TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_of_root ON jobs(root);
CREATE INDEX IF NOT EXISTS root_jobs ON jobs(id) WHERE parent IS NULL;
CREATE INDEX IF NOT EXISTS root_jobs_of_subject ON jobs(subject, id) WHERE parent IS NULL;
CREATE INDEX IF NOT EXISTS running_jobs ON jobs(id) WHERE status = 'running';
"""

_COLUMNS = "id, parent, root, subject, name, actor, arguments, started_ns, ended_ns, status, error, stages"


class Entry(Protocol):
    """A run, as the journal sees it: it is read when the batch is written, not when it is noted."""

    @property
    def job_id(self) -> JobId: ...

    def record(self) -> JobRecord: ...


def subject_of(job: Job[Any]) -> str:
    """What a job is about as far as its arguments tell: the container, exec, image or network that it names."""
    for name in ("container", "exec_id", "network"):
        value = getattr(job, name, "")
        if isinstance(value, str) and value:
            return value
    image, tag = getattr(job, "image", ""), getattr(job, "tag", "")
    return image_subject(image, "" if hasattr(job, "repo") else tag) if isinstance(image, str) and image else ""


def image_subject(image: str, tag: str = "") -> str:
    """One spelling for an image however it was typed: ``busybox:latest``."""
    text = f"{image}{'@' if ':' in tag else ':'}{tag}" if tag else image
    try:
        return reference.parse(text).default_tag().familiar
    except InvalidParameter:
        return text


def arguments_of(job: Job[Any]) -> dict[str, object]:
    """The arguments as the journal keeps them: without zero values and secrets, long ones cut."""
    arguments: dict[str, object] = {}
    for item in fields(job):
        value = getattr(job, item.name)
        if item.name in job.secret:
            continue
        kept = _reduced(item.name, msgspec.to_builtins(value, enc_hook=str))
        if kept is not None:
            arguments[item.name] = kept
    return arguments


def _reduced(key: str, value: Any) -> Any:
    """``value`` without zero values and secrets; None if nothing is left."""
    name = key.lower()
    match value:
        case dict():
            if name in _SECRET_KEYS:
                return _REDACTED
            kept = {
                str(k): r for k, v in list(value.items())[: _LIST_LIMIT * 4] if (r := _reduced(str(k), v)) is not None
            }
            return kept or None
        case list() | tuple():
            if name == "env":
                return [f"{str(item).partition('=')[0]}={_REDACTED}" for item in value[:_LIST_LIMIT]] or None
            return [kept for item in value[:_LIST_LIMIT] if (kept := _reduced(key, item)) is not None] or None
        case None | False | 0 | "":
            return None
        case str():
            if name in _SECRET_KEYS and value:
                return _REDACTED
            return value if len(value) <= _STRING_LIMIT else value[:_STRING_LIMIT] + "..."
        case _:
            return value


def _encoded(arguments: Mapping[str, object]) -> str:
    text = msgspec.json.encode(arguments)
    if len(text) > _ARGUMENTS_LIMIT:
        small = {key: value for key, value in arguments.items() if not isinstance(value, dict | list)}
        text = msgspec.json.encode(small | {"truncated": True})
    return text[:_ARGUMENTS_LIMIT].decode(errors="replace")


class Journal:
    """A journal file, owned by one daemon. ``max_rows`` and ``max_bytes`` bound it: the oldest roots go first.

    A disk that is full or a broken file costs entries, never a job.
    """

    def __init__(self, path: str, *, max_rows: int = 50_000, max_bytes: int = 32 << 20) -> None:
        self._path = path
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._queue: deque[Entry] = deque(maxlen=_QUEUE_LIMIT)
        self._pending = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failing = False
        self._db = self._open()
        self._rows = self._count()
        self._writer = threading.Thread(target=self._write_loop, name="journal", daemon=True)
        self._writer.start()

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            log.warning("journal %s is unusable (%s): it is set aside and a new one begun", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(self._path + suffix, f"{self._path}.broken{suffix}")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            with suppress(OSError):
                os.chmod(self._path, 0o600)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.executescript(_SCHEMA)
            db.execute(f"SELECT {_COLUMNS} FROM jobs LIMIT 0")
            db.execute("UPDATE jobs SET status = 'lost', ended_ns = ? WHERE status = 'running'", (time_ns(),))
        except BaseException:
            db.close()
            raise
        return db

    def note(self, entry: Entry) -> None:
        """Have ``entry`` written as it then is. Call it when a run begins and when it has ended. Never blocks."""
        self._queue.append(entry)
        if not self._pending.is_set():
            self._pending.set()

    def _write_loop(self) -> None:
        while not self._stop.is_set():
            self._pending.wait()
            self._stop.wait(FLUSH_DELAY_S)
            self.flush()

    def flush(self) -> None:
        """Write what was noted so far."""
        with self._lock:
            self._pending.clear()
            batch: dict[JobId, Entry] = {}
            while self._queue:
                entry = self._queue.popleft()
                batch[entry.job_id] = entry
            if not batch:
                return
            try:
                self._write(list(batch.values()))
                self._failing = False
            except sqlite3.Error as error:
                if not self._failing:
                    log.warning("journal %s: %d entries were not kept: %s", self._path, len(batch), error)
                self._failing = True

    def _write(self, entries: list[Entry]) -> None:
        rows = [_row(entry.record()) for entry in entries]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(f"INSERT OR REPLACE INTO jobs ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            self._rows += len(rows)
            if self._rows > self._max_rows or self._bytes() > self._max_bytes:
                self._prune()
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _prune(self) -> None:
        """Delete the oldest roots that have ended, with their trees, until a tenth of the room is free again."""
        self._rows = self._count()
        while self._rows > self._max_rows * 0.9 or self._bytes() > self._max_bytes * 0.9:
            oldest = self._db.execute(
                "SELECT id FROM jobs WHERE parent IS NULL AND status != 'running' ORDER BY id LIMIT ?",
                (max(1, self._rows // 20),),
            ).fetchall()
            if not oldest:
                break
            self._db.executemany("DELETE FROM jobs WHERE root = ?", oldest)
            self._rows = self._count()

    def _count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def _bytes(self) -> int:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
        return (pages - free) * size

    def read(self, *, limit: int = 50, tree: str = "", running: bool = False) -> tuple[JobRecord, ...]:
        """The newest ``limit`` roots, newest first; or every job of the story that ``tree`` names, oldest first.

        ``tree`` is a job's ID or the beginning of one, a container's ID (or beginning, at least two digits) or name, or
        an image as it was typed. A container's story holds all roots about it, and the pull that the same
        client did for it just before.
        """
        self.flush()
        with self._lock:
            if tree:
                roots = self._story(tree)
                marks = ",".join("?" * len(roots))
                rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE root IN ({marks}) ORDER BY id", roots)
            elif running:
                rows = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE status = 'running' ORDER BY id DESC")
            else:
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM jobs WHERE parent IS NULL ORDER BY id DESC LIMIT ?",
                    (limit if limit > 0 else -1,),
                )
            return tuple(_record(row) for row in rows)

    def _story(self, tree: str) -> list[str]:
        """The IDs of the root jobs that ``tree`` stands for."""
        job = self._db.execute(
            "SELECT root FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 1", (tree.upper(), tree.upper() + "~")
        ).fetchone()
        if job is not None and len(tree) >= 10:
            root = str(job[0])
            (subject,) = self._db.execute("SELECT subject FROM jobs WHERE id = ?", (root,)).fetchone() or ("",)
            return self._container_story(subject) if _is_container_id(subject) else [root]
        subject = self._container_called(tree)
        if subject:
            return self._container_story(subject)
        return self._roots_about(tree) or self._roots_about(image_subject(tree))

    def _container_called(self, name: str) -> str:
        """The full ID of the newest container with this name or beginning of an ID; "" if the journal knows none."""
        plain = name.lstrip("/")
        row = self._db.execute(
            "SELECT subject FROM jobs WHERE parent IS NULL AND length(subject) = 64 AND subject >= ? AND subject < ?"
            " ORDER BY id DESC LIMIT 1",
            (plain, plain + "g"),
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "SELECT subject FROM jobs WHERE parent IS NULL AND length(subject) = 64 AND"
                " ? IN (json_extract(arguments, '$.container_name'), json_extract(arguments, '$.container'),"
                " json_extract(arguments, '$.new_name')) ORDER BY id DESC LIMIT 1",
                (plain,),
            ).fetchone()
        return str(row[0]) if row is not None and _is_container_id(str(row[0])) else ""

    def _roots_about(self, subject: str) -> list[str]:
        return [
            str(row[0])
            for row in self._db.execute(
                "SELECT id FROM jobs WHERE parent IS NULL AND subject = ? ORDER BY id DESC LIMIT ?",
                (subject, _STORY_LIMIT),
            )
        ]

    def _container_story(self, container_id: str) -> list[str]:
        roots = self._roots_about(container_id)
        created = self._db.execute(
            "SELECT id, actor FROM jobs WHERE parent IS NULL AND subject = ? AND name = 'create' ORDER BY id LIMIT 1",
            (container_id,),
        ).fetchone()
        if created is not None and str(created[1]).startswith("uid="):
            # One `run` of the command line is one process: what it asked for just before create belongs to the story.
            before = self._db.execute(
                "SELECT id, name, status FROM jobs WHERE parent IS NULL AND actor = ? AND id < ?"
                " ORDER BY id DESC LIMIT 4",
                (created[1], created[0]),
            )
            for root, name, status in before:
                if name == "pull" or (name == "create" and status == "failed"):
                    roots.append(str(root))
                else:
                    break
        return roots

    def close(self) -> None:
        """Write what is left and let go of the file. What still runs stays "running" in it."""
        self._stop.set()
        self._pending.set()
        self._writer.join(timeout=5.0)
        self.flush()
        with self._lock:
            self._db.close()


def _is_container_id(subject: str) -> bool:
    return len(subject) == 64 and not subject.strip("0123456789abcdef")


def _row(record: JobRecord) -> tuple[object, ...]:
    return (
        record.job_id,
        record.parent_id,
        record.root_id or record.job_id,
        record.subject,
        record.name,
        record.actor,
        _encoded(record.arguments),
        record.started_ns,
        record.ended_ns,
        record.status,
        record.error[:_ERROR_LIMIT],
        _encoded(record.stages),
    )


def _decoded(text: str) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", msgspec.json.decode(text))
    except msgspec.DecodeError:
        return {}


def _record(row: tuple[Any, ...]) -> JobRecord:
    return JobRecord(
        job_id=JobId(row[0]),
        parent_id=JobId(row[1]) if row[1] is not None else None,
        root_id=JobId(row[2]),
        subject=row[3],
        name=row[4],
        actor=row[5],
        arguments=_decoded(row[6]),
        started_ns=row[7],
        ended_ns=row[8],
        status=row[9],
        error=row[10],
        stages=_decoded(row[11]),
    )
