"""The graph database: entities, edges, names, and that it can be lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.graph.graphdb import Edge, GraphDB


@pytest.fixture
def db(tmp_path: Path) -> Iterator[GraphDB]:
    opened = GraphDB(str(tmp_path / "graph.db"))
    yield opened
    opened.close()


@pytest.mark.claim("graphdb-edges", "graphdb-simple-interface")
def test_edges_lead_both_ways(db: GraphDB) -> None:
    db.add("l1", "layer")
    db.add("l2", "layer", [("parent", "l1")])
    db.add("image", "image", [("layer", "l2")])
    db.add("container", "container", [("image", "image")])
    db.flush()
    assert db.kind("l2") == "layer"
    assert db.kind("nobody") is None
    assert db.entities("layer") == ["l1", "l2"]
    assert db.edges_from("image") == [Edge("image", "layer", "l2")]
    assert db.edges_to("image") == [Edge("container", "image", "image")]
    assert db.below("container") == ["image", "l2", "l1"]


def test_adding_again_replaces_the_edges(db: GraphDB) -> None:
    db.add("c", "container", [("image", "old")])
    db.add("c", "container", [("image", "new")])
    db.flush()
    assert [edge.target for edge in db.edges_from("c")] == ["new"]


@pytest.mark.claim("graphdb-names")
def test_names_are_unique_within_a_kind(db: GraphDB) -> None:
    db.set_name("image", "bb:1", "first")
    db.set_name("image", "bb:1", "second")
    db.set_name("container", "bb:1", "third")
    db.flush()
    assert db.named("image", "bb:1") == "second"
    assert db.names("third") == [("container", "bb:1")]
    db.remove_name("image", "bb:1")
    db.flush()
    assert db.named("image", "bb:1") is None


def test_removal_takes_edges_and_names(db: GraphDB) -> None:
    db.add("i", "image", [("layer", "l")])
    db.set_name("image", "bb:1", "i")
    db.remove("i")
    db.flush()
    assert (db.kind("i"), db.edges_from("i"), db.named("image", "bb:1")) == (None, [], None)


def test_a_circle_ends(db: GraphDB) -> None:
    db.add("a", "x", [("to", "b")])
    db.add("b", "x", [("to", "a")])
    db.flush()
    assert sorted(db.below("a")) == ["a", "b"]


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    first = GraphDB(str(tmp_path / "graph.db"))
    first.add("i", "image", [("layer", "l")])
    first.close()
    second = GraphDB(str(tmp_path / "graph.db"))
    assert second.edges_from("i") == [Edge("i", "layer", "l")]
    second.close()


def test_what_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "graph.db").write_bytes(b"this is not a database, but it is long enough to look at" * 50)
    db = GraphDB(str(tmp_path / "graph.db"))
    db.add("i", "image")
    db.flush()
    assert db.kind("i") == "image"
    db.close()
    assert sqlite3.connect(tmp_path / "graph.db").execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_many_writers(db: GraphDB) -> None:
    def write(thread: int) -> None:
        for number in range(100):
            db.add(f"{thread}-{number}", "x", [("to", "t")])
            if number % 2:
                db.remove(f"{thread}-{number}")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.flush()
    assert len(db.entities("x")) == 8 * 50
    assert len(db.edges_to("t")) == 8 * 50
