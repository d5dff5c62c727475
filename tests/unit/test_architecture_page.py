"""Every path that ARCHITECTURE.md names exists, and every box of the tree is named there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_path_it_names_exists() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`((?:pyker|tests|bench|tools|docs|packaging)/[\w./-]+)`", page))
    assert len(named) > 30
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert missing == []


def test_every_package_is_named() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {f"pyker/{entry.name}/" for entry in (ROOT / "pyker").iterdir() if (entry / "__init__.py").exists()}
    assert {package for package in packages if f"`{package}`" not in page} == set()
