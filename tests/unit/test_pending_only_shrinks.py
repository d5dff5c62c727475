"""The list of what Pyker has not got yet may only get shorter."""

from __future__ import annotations

import tomllib

from tests.support.claims import FOLDER


def test_pending_only_shrinks() -> None:
    listed = tomllib.loads((FOLDER / "pending.toml").read_text(encoding="utf-8"))
    assert len(listed.get("pending", [])) <= listed["most"]
