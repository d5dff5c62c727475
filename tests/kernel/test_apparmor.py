"""AppArmor on a kernel that has it: the default profile is loaded, keeps what it promises, and goes again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyker.errors import KernelError
from pyker.libcontainer import apparmor, capabilities
from pyker.libcontainer.spec import Capabilities
from tests.kernel.containerbench import Bench, Ran, bench
from tests.support.forked import in_child

pytestmark = pytest.mark.requires("root", "overlay", "busybox", "apparmor", "apparmor-parser")

KNOWN = tuple(sorted(capabilities.bounding_set()))
EVERYTHING = Capabilities(bounding=KNOWN, effective=KNOWN, permitted=KNOWN)
FORBIDDEN = (
    "/proc/sys/vm/swappiness",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/sysrq",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/module/apparmor/parameters/mode",
)
ALLOWED = ("/proc/self/comm", "/proc/sys/kernel/shmmni", "/etc/made", "/dev/null")
SCRIPT = "for file; do (: > $file) 2>/dev/null && echo open $file || echo shut $file; done"


@pytest.fixture(scope="module")
def profile() -> Iterator[str]:
    """The default profile, under a name of the tests' own."""
    name = f"pyker-test-{os.getpid()}"
    apparmor.load_default(name=name)
    yield name
    apparmor.unload(name)
    assert not apparmor.loaded(name)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("warm")) as made:
        yield made


@pytest.fixture
def containers(warm: Bench) -> Iterator[Bench]:
    yield warm
    warm.renew()


def run(containers: Bench, profile: str, *args: str) -> Ran:
    """With every capability, and nothing read-only or masked: only the profile stands in the way."""
    mounts = tuple(
        each if each.fstype != "sysfs" else type(each)(target="/sys", fstype="sysfs", source="sysfs")
        for each in containers.spec("true").mounts
        if each.fstype != "cgroup"
    )
    options = {"apparmor_profile": profile, "capabilities": EVERYTHING}
    return containers.run(*args, process=options, mounts=mounts)


def test_it_is_loaded_in_enforce_mode(profile: str) -> None:
    assert f"{profile} (enforce)" in Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()


def test_loading_it_again_replaces_it(profile: str) -> None:
    apparmor.load(apparmor.default_text(profile), profile)
    names = [line.split()[0] for line in Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()]
    assert names.count(profile) == 1


def test_the_process_runs_under_it_from_its_first_instruction(containers: Bench, profile: str) -> None:
    assert run(containers, profile, "cat", "/proc/self/attr/current").lines == [f"{profile} (enforce)"]
    assert run(containers, "unconfined", "cat", "/proc/self/attr/current").lines == ["unconfined"]


def test_knobs_of_the_machine_are_shut_and_the_containers_own_are_open(containers: Bench, profile: str) -> None:
    present = tuple(path for path in FORBIDDEN if os.path.exists(path))
    assert len(present) > 5
    ran = run(containers, profile, "sh", "-c", SCRIPT, "sh", *present, *ALLOWED)
    assert ran.lines == [*(f"shut {path}" for path in present), *(f"open {path}" for path in ALLOWED)]
    # The profile alone did that.
    writable = tuple(path for path in present if path != "/proc/sysrq-trigger")
    assert run(containers, "unconfined", "sh", "-c", SCRIPT, "sh", *writable).lines == [f"open {p}" for p in writable]


def test_mounts_are_refused_even_with_every_capability(containers: Bench, profile: str) -> None:
    script = "mount -t tmpfs none /tmp 2>/dev/null && echo mounted || echo refused"
    assert run(containers, profile, "sh", "-c", script).lines == ["refused"]
    assert run(containers, "unconfined", "sh", "-c", script).lines == ["mounted"]


def test_an_exec_runs_under_it_too(containers: Bench, profile: str) -> None:
    process, _ = containers.start(containers.spec("sleep", "60", process={"apparmor_profile": profile}))
    assert Path(f"/proc/{process.pid}/attr/current").read_text().strip() == f"{profile} (enforce)"
    done = containers.exec(process, "cat", "/proc/self/attr/current", apparmor_profile=profile)
    assert done.lines == [f"{profile} (enforce)"]
    process.signal(9)


def test_signals_come_from_inside_and_from_the_engine_but_not_from_other_profiles(
    containers: Bench, profile: str
) -> None:
    process, watcher = containers.start(
        containers.spec(
            "sh", "-c", "sleep 60 & kill $! && echo killed; sleep 60", process={"apparmor_profile": profile}
        )
    )
    other = f"{profile}-other"
    apparmor.load(apparmor.default_text(other), other)
    try:

        def kills() -> str:
            Path("/proc/self/attr/current").write_text(f"changeprofile {other}")
            try:
                os.kill(process.pid, 15)
            except PermissionError:
                return "refused"
            return "done"

        assert in_child(kills) == "refused"
        process.signal(9)
        assert watcher.wait().signal == 9
    finally:
        apparmor.unload(other)


def test_a_profile_that_is_not_loaded_is_named_and_nothing_is_left(containers: Bench) -> None:
    spec = containers.spec("true", process={"apparmor_profile": "nosuch"})
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert caught.value.message.startswith("apparmor failed to apply profile nosuch: write /proc/self/attr/")
    assert caught.value.message.endswith("exec: no such file or directory")
    assert not containers.cgroup_exists(spec)
