"""The lab's cache: keys, whole or absent entries, scratch folders of killed runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab import cache


def build(folder: Path) -> Mapping[str, object]:
    (folder / "made").write_text("content")
    return {"of": "nothing"}


def test_a_key_names_exactly_its_inputs(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("one")
    first = cache.key("a", ["b"], file)
    assert first == cache.key("a", ["b"], file)
    assert len({first, cache.key("a", "b", file), cache.key("ab", file), cache.key("a", ["b"])}) == 4
    file.write_text("two")
    assert cache.key("a", ["b"], file) != first


def test_words_about_a_recipe_are_no_part_of_it(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""One."""\n\ndef f():\n    """Two."""\n    return 1\n')
    first = cache.recipe(module)
    module.write_text('"""Uno."""\n# A comment.\ndef f():\n    """Due."""\n\n    return 1\n')
    assert cache.recipe(module) == first
    module.write_text('"""One."""\n\ndef f():\n    """Two."""\n    return 2\n')
    assert cache.recipe(module) != first


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    store = cache.Cache(tmp_path)
    path = store.get("kernel", "6.1", "k", build)
    assert (path / "made").read_text() == "content"
    manifest = json.loads((path / cache.MANIFEST).read_text())
    assert (manifest["kind"], manifest["name"], manifest["of"]) == ("kernel", "6.1", "nothing")

    def again(folder: Path) -> Mapping[str, object]:
        raise AssertionError("built twice")

    assert store.get("kernel", "6.1", "k", again) == path
    assert cache.Cache(tmp_path).get("kernel", "6.1", "k", again) == path


def test_two_that_want_it_at_once_build_it_once(tmp_path: Path) -> None:
    built = []
    entered = threading.Event()

    def slow(folder: Path) -> Mapping[str, object]:
        built.append(folder)
        entered.wait(5)
        return {}

    def want() -> None:
        cache.Cache(tmp_path).get("root", "x", "k", slow)

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.set()
    for thread in threads:
        thread.join(10)
    assert len(built) == 1


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> Mapping[str, object]:
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    store = cache.Cache(tmp_path)
    with pytest.raises(RuntimeError):
        store.get("root", "x", "k", broken)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert store.find("root", "x", "k") is None


def test_rebuild_takes_nothing_of_an_earlier_run_and_builds_once(tmp_path: Path) -> None:
    first = cache.Cache(tmp_path)
    first.get("root", "x", "k", build)
    first.close()
    count = []

    def counted(folder: Path) -> Mapping[str, object]:
        count.append(1)
        return build(folder)

    store = cache.Cache(tmp_path, rebuild=True)
    assert store.get("root", "x", "k", counted) == store.get("root", "x", "k", counted)
    assert count == [1]


def test_old_entries_go_but_not_those_in_use(tmp_path: Path) -> None:
    user = cache.Cache(tmp_path)
    held = user.get("root", "x", "key0", build)
    os.utime(held, (1, 1))
    maker = cache.Cache(tmp_path)
    for number in range(1, 6):
        made = maker.get("root", "x", f"key{number}", build)
        os.utime(made, (1000 + number, 1000 + number))
        maker.close()
    maker.get("root", "x", "key9", build)
    maker.close()
    assert held.exists()
    user.close()
    maker.get("root", "x", "key10", build)
    assert not held.exists()
    assert (tmp_path / "root-x-key10").exists()


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from lab import cache\n"
        "with cache.Cache(Path(sys.argv[1])).scratch('dead') as folder:\n"
        "    (folder / 'left').write_text('left')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    left = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1
    store = cache.Cache(tmp_path)
    with store.scratch("living") as living:
        assert store.sweep() == [left[0].name]
        assert living.exists()
    assert list(tmp_path.iterdir()) == []


def test_where_it_is() -> None:
    assert cache.home({"PYKER_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c/lab")
    assert cache.home({"XDG_CACHE_HOME": "/x"}) == Path("/x/pyker/lab")
    assert cache.home({"HOME": "/h"}) == Path("/h/.cache/pyker/lab")
