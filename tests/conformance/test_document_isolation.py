"""The document's six isolations and its limits, each by what it keeps apart, seen from inside and from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.compare import Comparison
from tests.support.engines import Engine
from tests.support.registry import Registry
from tests.support.sandbox import wait_until

NAMESPACES = ("mnt", "uts", "ipc", "pid", "net")
SUBORDINATE = 231_072


@pytest.fixture
def two(engine: Engine, busybox: str, names: Callable[[], str]) -> list[str]:
    """Two containers that run."""
    made = [names(), names()]
    for name in made:
        engine.docker("run", "-d", "--name", name, busybox, "sleep", "300", check=True)
    return made


def pid_of(engine: Engine, name: str) -> int:
    pid = engine.state(name)["Pid"]
    assert isinstance(pid, int) and pid > 0
    return pid


def shell(engine: Engine, name: str, script: str) -> str:
    return engine.docker("exec", name, "sh", "-c", script, check=True).out


@pytest.mark.claim(
    "execdriver-namespaces", "libcontainer-namespaces", "run-second-isolates", "overview-running-container"
)
@pytest.mark.parametrize("kind", NAMESPACES)
def test_two_containers_share_no_namespace(engine: Engine, two: list[str], kind: str) -> None:
    first, second = (os.readlink(f"/proc/{pid_of(engine, name)}/ns/{kind}") for name in two)
    assert len({first, second, os.readlink(f"/proc/self/ns/{kind}"), os.readlink(f"/proc/{engine.pid}/ns/{kind}")}) >= 3
    assert first != second


@pytest.mark.claim("isolation-mount")
def test_mounts_are_its_own(engine: Engine, busybox: str, two: list[str], name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--tmpfs", "/only-here", busybox, "sleep", "300", check=True)
    assert " /only-here " in Path(f"/proc/{pid_of(engine, name)}/mounts").read_text()
    for other in (*(pid_of(engine, each) for each in two), engine.pid, os.getpid()):
        assert " /only-here " not in Path(f"/proc/{other}/mounts").read_text()


@pytest.mark.claim("isolation-uts")
def test_the_host_name_is_its_own(engine: Engine, busybox: str, two: list[str], name: str) -> None:
    here = os.uname().nodename
    engine.docker("run", "-d", "--name", name, "--cap-add", "SYS_ADMIN", busybox, "sleep", "300", check=True)
    assert shell(engine, name, "hostname renamed; hostname") == "renamed\n"
    assert {shell(engine, each, "hostname").strip() for each in two} == {str(engine.inspect(e)["Id"])[:12] for e in two}
    assert os.uname().nodename == here


@pytest.mark.claim("isolation-ipc")
def test_message_queues_and_shared_memory_are_its_own(engine: Engine, two: list[str]) -> None:
    first, second = two
    shell(engine, first, "echo secret > /dev/shm/mine; echo 1 > /dev/mqueue/queue || true")
    assert shell(engine, first, "cat /dev/shm/mine") == "secret\n"
    assert shell(engine, second, "ls /dev/shm /dev/mqueue | grep -c mine || true") == "0\n"
    assert not Path("/dev/shm/mine").exists()


@pytest.mark.claim("isolation-pid")
def test_processes_are_its_own(engine: Engine, two: list[str]) -> None:
    first, second = two
    seen = shell(engine, first, "ls -d /proc/[0-9]* | wc -l")
    assert int(seen) <= 5
    outside = pid_of(engine, second)
    refused = engine.docker("exec", first, "sh", "-c", f"kill -9 {outside}")
    assert refused.code != 0 and Path(f"/proc/{outside}").exists()
    inside = Path(f"/proc/{outside}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()
    assert inside[-1] == "1" and len(inside) > 1


@pytest.mark.claim("isolation-network", "container-network-of-its-own")
def test_the_network_stack_is_its_own(engine: Engine, two: list[str]) -> None:
    first, second = two
    shell(engine, first, "nc -l -p 7777 >/dev/null & sleep 0.1; true")
    listening = "netstat -ltn | grep -c :7777 || true"
    wait_until(lambda: shell(engine, first, listening) == "1\n", what="the listener")
    assert shell(engine, second, listening) == "0\n"
    inside = shell(engine, first, "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' ' | sort | tr '\\n' ' '")
    assert inside == "eth0 lo "


@pytest.fixture
def remapped(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose containers have the subordinate IDs of a user, told in files of its own mount namespace."""
    for above in (tmp_path, *tmp_path.parents):
        if str(above) != "/":
            above.chmod(above.stat().st_mode | 0o1)
    own = type(engine)(tmp_path / "remapped", flags=["--userns-remap", "nobody:nogroup"])
    # Some look for the user's name in the groups' file too, some for the group's.
    for file, names in (("subuid", ["nobody"]), ("subgid", ["nobody", "nogroup"])):
        (tmp_path / file).write_text("".join(f"{name}:{SUBORDINATE}:65536\n" for name in names))
        target = f"/etc/{file}"
        own.sandbox.run(["mount", "--bind", str(tmp_path / file), target])
    yield own
    own.stop()


@pytest.mark.claim("isolation-user")
@pytest.mark.requires("idmapped-mounts")
def test_root_inside_is_another_user_outside(remapped: Engine, tmp_path: Path) -> None:
    remapped.start()
    with Registry(tmp_path / "registry", remapped.sandbox) as registry:
        reference = registry.push(images.make(tmp_path / "image"), "test/busybox:1")
        remapped.docker("run", "-d", "--name", "mapped", reference, "sleep", "300", check=True)
    pid = pid_of(remapped, "mapped")
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert Path(f"/proc/{pid}/uid_map").read_text().split()[:2] == ["0", str(SUBORDINATE)]
    assert os.stat(f"/proc/{pid}").st_uid == SUBORDINATE
    assert shell(remapped, "mapped", "id -u; touch /mine; stat -c %u /mine /bin/sh") == "0\n0\n0\n"


@pytest.mark.claim("libcontainer-apparmor")
@pytest.mark.requires("apparmor")
def test_a_container_is_under_a_profile(engine: Engine, two: list[str]) -> None:
    assert Path(f"/proc/{pid_of(engine, two[0])}/attr/current").read_text().startswith("docker-default (enforce)")


def limit(pid: int, one: tuple[str, str], two: str) -> str:
    """A limit from the cgroup of ``pid``: controller and file of version 1, file of version 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if one[0] in names.split(","):
            return (Path("/sys/fs/cgroup") / one[0] / path.lstrip("/") / one[1]).read_text().strip()
    path = Path(f"/proc/{pid}/cgroup").read_text().split("::", 1)[1].strip()
    return (Path("/sys/fs/cgroup") / path.lstrip("/") / two).read_text().strip()


def disk() -> str:
    """A block device of this machine, and its numbers; empty without one."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")) and Path(f"/dev/{name}").exists():
            return name
    return ""


@pytest.mark.claim("limit-memory", "limit-cpu", "limit-processes", "execdriver-limits", "run-second-limits",
                   "container-quota", "libcontainer-restrictions", "rule-resources")  # fmt: skip
@pytest.mark.parametrize(
    ("flags", "one", "two", "values"),
    [
        (["-m", "64m"], ("memory", "memory.limit_in_bytes"), "memory.max", {"67108864"}),
        (["-m", "64m", "--memory-swap", "96m"], ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max",
         {"100663296", "33554432"}),
        (["--memory-reservation", "32m"], ("memory", "memory.soft_limit_in_bytes"), "memory.low", {"33554432"}),
        (["--cpus", "0.5"], ("cpu", "cpu.cfs_quota_us"), "cpu.max", {"50000", "50000 100000"}),
        (["--cpu-period", "50000", "--cpu-quota", "25000"], ("cpu", "cpu.cfs_period_us"), "cpu.max",
         {"50000", "25000 50000"}),
        (["--cpu-shares", "256"], ("cpu", "cpu.shares"), "cpu.weight", {"256", "10"}),
        (["--cpuset-cpus", "0"], ("cpuset", "cpuset.cpus"), "cpuset.cpus", {"0"}),
        (["--pids-limit", "99"], ("pids", "pids.max"), "pids.max", {"99"}),
    ],
)  # fmt: skip
def test_limits_are_set(
    engine: Engine, busybox: str, name: str, flags: list[str], one: tuple[str, str], two: str, values: set[str]
) -> None:
    engine.docker("run", "-d", "--name", name, *flags, busybox, "sleep", "300", check=True)
    assert limit(pid_of(engine, name), one, two) in values


@pytest.mark.claim("limit-block-io", "rule-resources")
def test_a_limit_on_reading_a_disk(engine: Engine, busybox: str, name: str) -> None:
    if not (device := disk()):
        pytest.skip("no disk here")
    flags = ["--device-read-bps", f"/dev/{device}:1mb"]
    done = engine.docker("run", "-d", "--name", name, *flags, busybox, "sleep", "300")
    assert done.code == 0, done
    numbers = Path(f"/sys/block/{device}/dev").read_text().strip()
    text = limit(pid_of(engine, name), ("blkio", "blkio.throttle.read_bps_device"), "io.max")
    assert numbers in text and "1048576" in text


@pytest.mark.claim("limit-memory", "rule-oom")
def test_the_memory_limit_holds(engine: Engine, busybox: str, name: str) -> None:
    script = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived"
    done = engine.docker("run", "--name", name, "-m", "16m", "--memory-swap", "16m", busybox, "sh", "-c", script)
    if "survived" in done.out:
        wait_until(lambda: engine.state(name)["OOMKilled"] is True, what=f"OOMKilled after {done}")


@pytest.mark.claim("libcontainer-isolates-then-starts", "run-second-starts")
def test_limits_and_isolation_are_there_before_the_command(compare: Comparison) -> None:
    """The very first thing that the command sees."""
    image = compare.pulled()
    script = "ulimit -n; cat /proc/self/status | grep -E '^(Cap|Seccomp:|NoNewPrivs)'; echo $$; hostname; id"
    flags = ["--ulimit", "nofile=64:64", "--pids-limit", "20", "-m", "32m", "--hostname", "first", "-u", "33:33"]
    compare("run", "--rm", *flags, image, "sh", "-c", script)


@pytest.mark.claim("libcontainer-devices", "rule-default-devices")
def test_the_devices_are_those_of_the_reference(compare: Comparison) -> None:
    image = compare.pulled()
    compare(
        "run", "--rm", image, "sh", "-c", "cd /dev; ls -ln | awk '{print $1, $3, $4, $5, $6, $NF}' | sort; stat -c %a ."
    )
    script = "for d in null zero full random urandom tty; do head -c 1 /dev/$d >/dev/null 2>&1; echo $d $?; done"
    compare("run", "--rm", image, "sh", "-c", script)


@pytest.mark.claim("rule-default-mounts", "overview-running-container")
def test_the_mounts_are_those_of_the_reference(compare: Comparison) -> None:
    image = compare.pulled()
    script = "awk '{print $5, $6}' /proc/self/mountinfo | grep -v -e ^/sys/fs/cgroup -e ^/proc -e ^/sys/ | sort"
    compare("run", "--rm", image, "sh", "-c", script)


@pytest.mark.claim("rule-masked-paths", "rule-default-mounts")
def test_proc_and_sys_are_as_shut_as_the_references(compare: Comparison) -> None:
    image = compare.pulled()
    script = (
        "for p in /proc/acpi /proc/kcore /proc/keys /proc/timer_list /proc/scsi /sys/firmware; do "
        "[ -e $p ] && { [ -d $p ] && ls $p | wc -l || head -c 5 $p | wc -c; } || echo none; done; "
        "for p in /proc/sys/kernel/domainname /proc/bus /proc/irq /sys/kernel/mm; do touch $p/x 2>&1 | tail -c 22; done"
    )
    compare("run", "--rm", image, "sh", "-c", script)
