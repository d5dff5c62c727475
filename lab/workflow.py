"""``python -m lab.workflow`` writes the hosted CI's workflow: a job a guest of the table, then the report of all."""

from __future__ import annotations

import sys
from pathlib import Path

from lab.table import Table, table

PATH = Path(__file__).parent.parent / ".github/workflows/ci.yml"

_HEAD = """\
# Made by `python -m lab.workflow` from lab/machines.json; a test compares the two.
name: ci
on: [push, pull_request]
permissions:
  contents: read
jobs:
  run:
    runs-on: ubuntu-latest
    timeout-minutes: 90
    container:
      image: debian:bookworm
      options: --privileged --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup -v /lib/modules:/lib/modules:ro
    steps:
{source}
      - run: .ci/run
"""

_SOURCE = """\
      - run: apt-get update && apt-get install -y --no-install-recommends git ca-certificates
      - uses: actions/checkout@v4
      - run: git config --global --add safe.directory "$GITHUB_WORKSPACE\""""

_GUESTS = """\
  lab:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    container:
      image: debian:bookworm
      options: --privileged
    strategy:
      fail-fast: false
      matrix:
        guest:
{guests}
    env:
      PYKER_CACHE: /var/tmp/pyker-cache
    steps:
{source}
      - run: tools/bootstrap --lab
      - uses: actions/cache@v4
        with:
          path: /var/tmp/pyker-cache/lab/*-*
          key: lab-${{{{ matrix.guest }}}}-${{{{ hashFiles('lab/**', 'requirements/dev.txt') }}}}
          restore-keys: lab-${{{{ matrix.guest }}}}-
      - run: .venv/bin/nox -s lab -- --guest "${{{{ matrix.guest }}}}"
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: results-${{{{ matrix.guest }}}}
          path: build/results
"""

_VAGRANTFILE = """\
  vagrantfile:
    runs-on: ubuntu-latest
    container:
      image: debian:bookworm
    env:
      PYKER_PROMISED: vagrant
    steps:
{source}
      - run: tools/bootstrap --tests
      - run: apt-get install -y --no-install-recommends vagrant
      - run: .venv/bin/nox -s unit -- tests/unit/test_lab_vagrantfile.py
"""

_REPORT = """\
  report:
    needs: lab
    if: always()
    runs-on: ubuntu-latest
    container:
      image: debian:bookworm
    steps:
{source}
      - run: tools/bootstrap --tests
      - uses: actions/download-artifact@v4
        with:
          pattern: results-*
          path: build/results
          merge-multiple: true
      - run: .venv/bin/nox -s report
      - uses: actions/upload-artifact@v4
        with:
          name: report
          path: build/report
"""


def render(table: Table) -> str:
    """The workflow's text."""
    names = [guest.name for guest in table.guests if not guest.on_request] + [pair.name for pair in table.pairs]
    # Quoted: a name such as 7.2 would be a number.
    guests = "\n".join(f'          - "{name}"' for name in names)
    return "".join(part.format(source=_SOURCE, guests=guests) for part in (_HEAD, _GUESTS, _VAGRANTFILE, _REPORT))


def main() -> int:
    """Write it."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(render(table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
