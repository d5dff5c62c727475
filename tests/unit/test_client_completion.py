"""Completion in bash knows every command and its flags, and asks the daemon for names."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from pyker.client import catalogue
from pyker.client.completion import bash_completion

SCRIPT = Path(__file__).parents[2] / "docs" / "completion" / "pyker.bash"


def complete(line: str, *, pyker: str = "") -> list[str]:
    """What bash offers at the end of ``line``. ``pyker`` is a shell function's body in place of the program."""
    words = line.split(" ")
    program = (
        f"source {shlex.quote(str(SCRIPT))}; pyker() {{ {pyker or 'return 1'}; }}\n"
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)}); COMP_CWORD={len(words) - 1}; _pyker\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_the_script_is_up_to_date() -> None:
    assert SCRIPT.read_text(encoding="utf-8") == bash_completion(), "python -m pyker.client.completion"


def test_commands_complete() -> None:
    assert set(complete("pyker ")) == {path for path in catalogue.PATHS if " " not in path} | {
        *catalogue.GROUPS, "daemon", "help"
    }  # fmt: skip
    assert complete("pyker ru") == ["run"]
    assert complete("pyker -H unix:///x ru") == ["run"]
    assert complete("pyker system ") == ["df", "events", "info", "prune"]
    assert complete("pyker --tlsv") == ["--tlsverify"]


@pytest.mark.parametrize("path", sorted(catalogue.PATHS))
def test_flags_complete(path: str) -> None:
    shown = {f"--{flag.name}" for flag in catalogue.load(path).flags if not flag.hidden}
    assert set(complete(f"pyker {path} --")) == shown | {"--help"}


def test_names_are_asked_of_the_daemon() -> None:
    said = 'echo "asked-$1$2$3"'
    assert complete("pyker stop ", pyker=said) == ["asked-ps--format{{.Names}}"]
    assert complete("pyker rm ", pyker=said) == ["asked-ps-a--format"]
    assert complete("pyker container rm -f ", pyker=said) == ["asked-ps-a--format"]
    assert complete("pyker run --rm ", pyker=said) == ["asked-images--format{{.Repository}}:{{.Tag}}"]
    assert complete("pyker network inspect ", pyker=said) == ["asked-networkls--format"]
