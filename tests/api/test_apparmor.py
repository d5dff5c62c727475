"""AppArmor through the whole engine: which profile a container gets, and what it says of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.libcontainer import apparmor
from tests.support.engines import Pyker

BUSYBOX = "pyker.local/busybox"
needs = pytest.mark.requires("root", "overlay", "nftables", "busybox", "docker-cli")
confining = pytest.mark.requires("apparmor", "apparmor-parser")
CURRENT = ("cat", "/proc/self/attr/current")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyker]:
    made = Pyker(tmp_path_factory.mktemp("apparmor") / "engine")
    made.sandbox.run(
        ["sh", "-c", "mountpoint -q /sys/kernel/security || mount -t securityfs none /sys/kernel/security"]
    )
    made.start()
    made.docker("pull", "-q", BUSYBOX, check=True)
    yield made
    made.stop()


@needs
@confining
def test_containers_and_execs_run_under_the_default_profile(engine: Pyker) -> None:
    assert "name=apparmor" in engine.docker("info", "--format", "{{.SecurityOptions}}").out
    engine.docker("run", "-d", "--name", "aa1", BUSYBOX, "sleep", "60", check=True)
    assert engine.docker("inspect", "--format", "{{.AppArmorProfile}}", "aa1").out == "pyker-default\n"
    pid = int(engine.docker("inspect", "--format", "{{.State.Pid}}", "aa1").out)
    assert Path(f"/proc/{pid}/attr/current").read_text().strip() == "pyker-default (enforce)"
    assert engine.docker("exec", "aa1", *CURRENT).out == "pyker-default (enforce)\n"
    assert engine.docker("exec", "--privileged", "aa1", *CURRENT).out == "unconfined\n"
    assert engine.docker("stop", "-t", "5", "aa1").code == 0
    assert engine.docker("rm", "aa1").code == 0


@needs
@confining
@pytest.mark.parametrize("flags", [("--security-opt", "apparmor=unconfined"), ("--privileged",)])
def test_unconfined_where_asked_for(engine: Pyker, flags: tuple[str, ...]) -> None:
    done = engine.docker("run", "--name", "aa2", *flags, BUSYBOX, *CURRENT)
    assert done.out == "unconfined\n"
    assert engine.docker("inspect", "--format", "{{.AppArmorProfile}}", "aa2").out == "unconfined\n"
    engine.docker("rm", "aa2", check=True)


@needs
@confining
def test_a_profile_of_the_users_own(engine: Pyker) -> None:
    name = f"pyker-own-{os.getpid()}"
    apparmor.load(f"profile {name} {{\n  file,\n  deny /bin/secret r,\n}}\n", name)
    try:
        script = "cat /proc/self/attr/current; touch /bin/secret; cat /bin/secret || echo refused"
        done = engine.docker("run", "--rm", "--security-opt", f"apparmor={name}", BUSYBOX, "sh", "-c", script)
        assert done.out == f"{name} (enforce)\nrefused\n"
    finally:
        apparmor.unload(name)


@needs
@confining
def test_one_that_is_not_loaded_fails_the_start(engine: Pyker) -> None:
    done = engine.docker("run", "--name", "aa3", "--security-opt", "apparmor=nosuch", BUSYBOX, "true")
    # The stock client's reading of the words below, which are the reference engine's.
    assert done.code == 127
    assert "apparmor failed to apply profile nosuch: write /proc/self/attr/" in done.err
    assert "no such file or directory" in done.err
    state = engine.docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "aa3").out
    assert state == "created 128\n"
    engine.docker("rm", "aa3", check=True)


@needs
def test_where_the_kernel_has_none_a_profile_is_refused_and_info_does_not_mention_it(engine: Pyker) -> None:
    there = apparmor.enabled()
    assert ("name=apparmor" in engine.docker("info", "--format", "{{.SecurityOptions}}").out) == there
    refused = engine.docker("run", "--rm", "--security-opt", "apparmor=nosuch", BUSYBOX, "true")
    assert refused.code == (127 if there else 125)
    assert ("apparmor isn't enabled in this kernel" in refused.err) == (not there)
    assert engine.docker("run", "--rm", "--security-opt", "apparmor=unconfined", BUSYBOX, "true").code == 0
