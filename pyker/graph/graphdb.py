"""The small graph database on SQLite: entities, the edges between them, and names.

It answers what refers to what: image -> layer, layer -> layer below, image -> parent, container -> image, tag -> image.
Files are the truth; this is an index that can be made again from them, so writes go to disk in batches by a thread of
its own and nobody waits for them. ``flush`` waits where that matters.

Source: seed, "Graph"; moby v1.2 pkg/graphdb for the idea.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Iterable
from typing import NamedTuple

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entity (id TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS edge (
    source TEXT NOT NULL, label TEXT NOT NULL, target TEXT NOT NULL,
    PRIMARY KEY (source, label, target)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edge_target ON edge (target, label);
CREATE TABLE IF NOT EXISTS name (kind TEXT NOT NULL, name TEXT NOT NULL, entity TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS name_entity ON name (entity);
"""
_BATCH = 500


class Edge(NamedTuple):
    """``source`` refers to ``target`` as its ``label`` (layer, parent, image, rw)."""

    source: str
    label: str
    target: str


class _Statement(NamedTuple):
    sql: str
    values: tuple[str, ...]


class GraphDB:
    """The database in the file at ``path``; a file that SQLite cannot read is set aside and begun anew. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pending: queue.Queue[list[_Statement] | threading.Event | None] = queue.Queue()
        self._connection = self._open()
        self._read_lock = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="graphdb", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Write what is pending, and close."""
        if self._closed:
            return
        self._closed = True
        self._pending.put(None)
        self._writer.join()
        with self._read_lock:
            self._connection.close()

    # Writing: each call returns at once

    def add(self, entity: str, kind: str, edges: Iterable[tuple[str, str]] = ()) -> None:
        """An entity, and its (label, target) edges instead of those it had."""
        statements = [
            _Statement("INSERT OR REPLACE INTO entity VALUES (?, ?)", (entity, kind)),
            _Statement("DELETE FROM edge WHERE source = ?", (entity,)),
        ]
        statements += [
            _Statement("INSERT OR REPLACE INTO edge VALUES (?, ?, ?)", (entity, label, target))
            for label, target in edges
        ]
        self._pending.put(statements)

    def remove(self, entity: str) -> None:
        """The entity, its own edges and its names. Edges of others that lead to it stay theirs."""
        self._pending.put(
            [
                _Statement("DELETE FROM entity WHERE id = ?", (entity,)),
                _Statement("DELETE FROM edge WHERE source = ?", (entity,)),
                _Statement("DELETE FROM name WHERE entity = ?", (entity,)),
            ]
        )

    def set_name(self, kind: str, name: str, entity: str) -> None:
        """``name`` means ``entity`` from now on; names are unique within a kind."""
        self._pending.put([_Statement("INSERT OR REPLACE INTO name VALUES (?, ?, ?)", (kind, name, entity))])

    def remove_name(self, kind: str, name: str) -> None:
        """``name`` means nothing any more."""
        self._pending.put([_Statement("DELETE FROM name WHERE kind = ? AND name = ?", (kind, name))])

    def clear(self, kinds: Iterable[str]) -> None:
        """Forget all entities of ``kinds``, with edges and names, as the first step of making them again."""
        for kind in kinds:
            self._pending.put(
                [
                    _Statement("DELETE FROM edge WHERE source IN (SELECT id FROM entity WHERE kind = ?)", (kind,)),
                    _Statement("DELETE FROM name WHERE entity IN (SELECT id FROM entity WHERE kind = ?)", (kind,)),
                    _Statement("DELETE FROM entity WHERE kind = ?", (kind,)),
                ]
            )

    def flush(self) -> None:
        """Wait until all that was asked for before is in the database."""
        done = threading.Event()
        self._pending.put(done)
        done.wait()

    # Reading: sees what is written already; ``flush`` first to see everything

    def kind(self, entity: str) -> str | None:
        """The entity's kind, None if it is not known."""
        rows = self._read("SELECT kind FROM entity WHERE id = ?", entity)
        return rows[0][0] if rows else None

    def entities(self, kind: str) -> list[str]:
        """IDs of all entities of a kind, sorted."""
        return [row[0] for row in self._read("SELECT id FROM entity WHERE kind = ? ORDER BY id", kind)]

    def edges_from(self, entity: str) -> list[Edge]:
        """What the entity refers to."""
        return [Edge(*row) for row in self._read("SELECT source, label, target FROM edge WHERE source = ?", entity)]

    def edges_to(self, entity: str) -> list[Edge]:
        """What refers to the entity."""
        return [Edge(*row) for row in self._read("SELECT source, label, target FROM edge WHERE target = ?", entity)]

    def named(self, kind: str, name: str) -> str | None:
        """The entity of that name."""
        rows = self._read("SELECT entity FROM name WHERE kind = ? AND name = ?", kind, name)
        return rows[0][0] if rows else None

    def names(self, entity: str) -> list[tuple[str, str]]:
        """(kind, name) of the entity's names, sorted."""
        rows = self._read("SELECT kind, name FROM name WHERE entity = ? ORDER BY kind, name", entity)
        return [(row[0], row[1]) for row in rows]

    def below(self, entity: str) -> list[str]:
        """Everything that can be reached from the entity, nearest first."""
        rows = self._read(
            "WITH RECURSIVE reached (id, depth) AS (SELECT target, 1 FROM edge WHERE source = ? UNION "
            "SELECT edge.target, depth + 1 FROM edge JOIN reached ON edge.source = reached.id WHERE depth < 1000) "
            "SELECT id FROM reached GROUP BY id ORDER BY min(depth), id",
            entity,
        )
        return [row[0] for row in rows]

    def _read(self, sql: str, *values: str) -> list[tuple[str, ...]]:
        with self._read_lock:
            return self._connection.execute(sql, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.DatabaseError as error:
            log.warning("the graph database %s cannot be read (%s): it is made anew", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                try:
                    os.unlink(self._path + suffix)
                except FileNotFoundError:
                    continue
            return _connect(self._path)

    def _write(self) -> None:
        connection = _connect(self._path)
        running = True
        while running:
            item = self._pending.get()
            waiting: list[threading.Event] = []
            statements: list[_Statement] = []
            while True:
                match item:
                    case None:
                        running = False
                    case threading.Event():
                        waiting.append(item)
                    case list():
                        statements += item
                if not running or len(statements) >= _BATCH:
                    break
                try:
                    item = self._pending.get_nowait()
                except queue.Empty:
                    break
            try:
                with connection:
                    for statement in statements:
                        connection.execute(*statement)
            except sqlite3.Error as error:
                log.warning("the graph database %s did not take a change: %s", self._path, error)
            for event in waiting:
                event.set()
        connection.close()


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -256")
    connection.executescript(_SCHEMA)
    return connection
