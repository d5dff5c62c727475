"""The list of what Pyker has not got yet only gets shorter."""

from __future__ import annotations

import re
import subprocess
import tomllib

from tests.support.claims import FOLDER, TREE

PENDING = FOLDER / "pending.toml"


def test_as_many_rows_as_are_allowed() -> None:
    """Whoever takes a row away lowers the number too, so that none can come in its place."""
    listed = tomllib.loads(PENDING.read_text(encoding="utf-8"))
    assert len(listed.get("pending", [])) == listed["most"]


def test_the_number_never_grew() -> None:
    """As far as the history that is here goes; a copy without any has nothing to compare."""
    listed = tomllib.loads(PENDING.read_text(encoding="utf-8"))
    command = ["git", "log", "-p", "-G^most = ", "--format=", "--", str(PENDING)]
    history = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False).stdout
    assert listed["most"] <= min(
        map(int, re.findall(r"^\+most = (\d+)$", history, re.MULTILINE)), default=listed["most"]
    )
