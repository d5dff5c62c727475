"""However a run of the lab ends, it says why, keeps what was known, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lab import cache
from tests.lab.live.conftest import GUEST, Lab, Start
from tests.support.sandbox import wait_until

INSIDE = "tests/lab/inside"
SOME_TESTS = ("tests/kernel/test_netlink.py", "tests/kernel/test_links.py")
CTRL_C = b"\x03"


def warm_cache(folder: Path, *kinds: str) -> Path:
    """A cache with entries of these kinds only, taken over from the real one."""
    made = folder / "cache"
    (made / "lab").mkdir(parents=True)
    for entry in cache.home().iterdir():
        if entry.is_dir() and entry.name.split("-")[0] in kinds:
            (made / "lab" / entry.name).mkdir()
            for file in entry.iterdir():
                (made / "lab" / entry.name / file.name).symlink_to(file)
    return made


def test_ctrl_c_while_tests_run(lab: Start) -> None:
    run = lab("--guest", GUEST, tests=SOME_TESTS, by_nox=True)
    run.until(r"\d+ tests")
    assert any(line.startswith("qemu-system") for line in run.processes().values())
    run.type(CTRL_C)
    assert run.end(60) != 0
    assert "interrupted; everything that it started is gone" in run.said
    run.assert_nothing_is_left()
    assert not list(run.results.glob("*"))


def test_ctrl_c_twice(lab: Start) -> None:
    """Who is impatient loses nothing."""
    run = lab("--guest", GUEST, tests=SOME_TESTS)
    run.until(r"\d+ tests")
    run.type(CTRL_C)
    run.type(CTRL_C)
    assert run.end(60) == 130
    run.assert_nothing_is_left()


def test_ctrl_c_at_a_first_boot(lab: Start, tmp_path: Path) -> None:
    store = warm_cache(tmp_path, "kernel", "root", "storage", "initrd", "accelerator")
    run = lab("--guest", GUEST, "--build", by_nox=True, PYKER_CACHE=str(store))
    run.until("first boot")
    wait_until(lambda: any("qemu-system" in line for line in run.processes().values()), timeout=30, what="the guest")
    run.type(CTRL_C)
    assert run.end(60) != 0
    assert "interrupted" in run.said
    run.assert_nothing_is_left()
    assert not list(run.cache.glob("state-*/manifest.json"))


@pytest.mark.requires("apt")
def test_ctrl_c_while_a_root_is_built(lab: Start, tmp_path: Path) -> None:
    """mmdebstrap has mounted what packages want to see, and runs their scripts."""
    store = warm_cache(tmp_path, "kernel", "accelerator")
    run = lab("--guest", GUEST, "--build", by_nox=True, PYKER_CACHE=str(store))
    run.until("building from packages")

    def unpacking() -> bool:
        return any(run.cache.glob("tmp-*/tree/usr/bin/dpkg")) and "dpkg" in " ".join(run.processes().values())

    wait_until(unpacking, timeout=300, what="dpkg in the new root", every=0.05)
    run.type(CTRL_C)
    assert run.end(60) != 0
    assert "interrupted" in run.said
    run.assert_nothing_is_left()
    assert not list(run.cache.glob("root-*/manifest.json"))


def test_a_lab_that_loses_its_nox_ends_too(lab: Start) -> None:
    run = lab("--guest", GUEST, tests=SOME_TESTS, by_nox=True)
    run.until(r"\d+ tests")
    run.process.send_signal(signal.SIGKILL)
    run.end(60)
    wait_until(lambda: not run.processes(), timeout=60, what="the end of the lab")
    run.assert_nothing_is_left()


def test_a_lab_that_is_killed_takes_its_guests_with_it(lab: Start) -> None:
    """It can't clean up; the next one does it."""
    run = lab("--guest", GUEST, tests=SOME_TESTS)
    run.until(r"\d+ tests")
    run.process.send_signal(signal.SIGKILL)
    run.end(60)
    wait_until(lambda: not run.processes(), timeout=60, what="the end of the guest")
    left = [path.name for path in run.cache.glob(f"tmp-{run.process.pid}-*")]
    assert left
    following = lab("--guest", GUEST, "--command", "true")
    assert following.end() == 0, following.said
    assert [name for name in left if (run.cache / name).exists()] == []
    following.assert_nothing_is_left()


def test_tests_that_fail(lab: Start) -> None:
    run = lab("--guest", GUEST, tests=[f"{INSIDE}/fails.py"])
    assert run.end() == 1
    assert f"FAILED {INSIDE}/fails.py::test_that_fails" in run.said
    assert f"{GUEST:<12} NOT GOOD  3 of 3: 1 passed, 2 failed" in run.said
    outcomes = {name: row["outcome"] for name, row in run.rows().items()}
    assert outcomes == {
        "test_that_passes": "passed",
        "test_that_fails": "failed",
        "test_that_leaves_something": "failed",
    }
    assert [run.suite().get(kind) for kind in ("failures", "errors")] == ["1", "1"]
    run.assert_nothing_is_left()


def test_a_guest_that_hangs(lab: Start) -> None:
    """It is ended by its deadline, and its console is shown; the report has what was known, and who it was."""
    began = time.monotonic()
    run = lab("--guest", GUEST, "--deadline", "75", tests=[f"{INSIDE}/hangs.py"])
    assert run.end(240) == 1
    assert time.monotonic() - began > 75
    hanging = f"{INSIDE}/hangs.py::test_that_hangs"
    assert f"s; 1 of 3: 1 passed, in {hanging}" in run.said
    assert "the guest did not answer within" in run.said
    assert "lab: this guest is about to hang" in run.said.partition("console:")[2]
    assert f"{GUEST:<12} NOT GOOD" in run.said
    assert_known(run, hanging, before="test_something_before")
    assert "lab: this guest is about to hang" in run.rows()["test_that_hangs"]["log"]
    run.assert_nothing_is_left()


def test_a_guest_that_dies(lab: Start) -> None:
    run = lab("--guest", GUEST, tests=[f"{INSIDE}/hangs.py::test_something_before", f"{INSIDE}/dies.py"])
    assert run.end() == 1
    dying = f"{INSIDE}/dies.py::test_that_is_the_guests_end"
    assert f"the guest ended; 1 of 2: 1 passed, in {dying}" in run.said
    assert "Kernel panic - not syncing: sysrq triggered crash" in run.said.partition("console:")[2]
    assert_known(run, dying, before="test_something_before")
    run.assert_nothing_is_left()


def assert_known(run: Lab, lost: str, *, before: str) -> None:
    """Results of a run that was lost in one test: that one and the guest are errors, what was before is as it was."""
    name = lost.rpartition("::")[2]
    rows = run.rows()
    assert {test: row["outcome"] for test, row in rows.items()} == {
        before: "passed",
        name: "failed",
        "the guest itself": "failed",
    }
    assert rows[name]["reason"].startswith("not ended: the guest ")
    assert rows["the guest itself"]["reason"].endswith(f"1 passed, in {lost}")
    suite = run.suite()
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("3", "2", "0")
    (error,) = (case for case in suite.findall("testcase") if case.get("name") == name)
    assert error.find("error") is not None


def test_a_guest_that_hangs_before_its_tests(lab: Start) -> None:
    """In a command of somebody who looks around, as much as in tests."""
    spin = "echo -1 >/proc/sys/kernel/sched_rt_runtime_us; chrt -f 99 sh -c 'while :; do :; done'"
    run = lab("--guest", GUEST, "--deadline", "5", "--command", spin)
    assert run.end(120) == 1
    assert "the guest did not answer within" in run.said and "console:" in run.said
    run.assert_nothing_is_left()


def test_nothing_is_left_of_a_run_that_is_good(lab: Start) -> None:
    run = lab("--guest", GUEST, tests=["tests/kernel/test_netlink.py"], by_nox=True)
    assert run.end() == 0, run.said
    assert {row["outcome"] for row in run.rows().values()} == {"passed"}
    assert os.path.exists(run.results / f"lab-{GUEST}.xml")
    run.assert_nothing_is_left()
