"""What a container's first process finds: its identity, limits, namespaces, terminal and streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from pyker.errors import InvalidParameter, KernelError, NotSupported
from pyker.libcontainer import capabilities
from pyker.libcontainer.spec import Capabilities, IdMapping, Rlimit
from tests.kernel.containerbench import MOUNTS, NAMESPACES, QUIET, Bench, bench, namespace_of

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("init")) as made:
        yield made


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code_is_the_commands_own(containers: Bench, code: int) -> None:
    ran = containers.run("sh", "-c", f"exit {code}")
    assert (ran.record.exit_code, ran.record.signal) == (code, 0)


def test_a_signal_is_128_plus_its_number(containers: Bench) -> None:
    process, watcher = containers.start(containers.spec("sleep", "60"))
    process.signal(9)
    record = watcher.wait()
    assert (record.exit_code, record.signal) == (137, 9)


def test_streams_are_kept_apart(containers: Bench) -> None:
    ran = containers.run("sh", "-c", "echo out; echo err >&2")
    assert (ran.stdout, ran.stderr) == (b"out\n", b"err\n")


@pytest.mark.claim("libcontainer-namespaces", "execdriver-namespaces")
def test_every_namespace_is_new_and_pid_is_one(containers: Bench) -> None:
    process, _ = containers.start(containers.spec("sleep", "60"))
    for kind in NAMESPACES:
        assert namespace_of(process.pid, kind) != namespace_of("thread-self", kind)
    assert containers.exec(process, "ps", "-o", "pid,args").lines[1].split() == ["1", "sleep", "60"]
    process.signal(9)


def test_a_missing_namespace_key_means_the_hosts(containers: Bench) -> None:
    shared = {name: "" for name in NAMESPACES if name not in ("uts", "ipc")}
    process, _ = containers.start(containers.spec("sleep", "60", namespaces=shared))
    for kind in ("uts", "ipc"):
        assert namespace_of(process.pid, kind) == namespace_of("thread-self", kind)
    process.signal(9)


def test_namespaces_of_another_container_can_be_joined(containers: Bench) -> None:
    first, _ = containers.start(containers.spec("sleep", "60"))
    joined = {name: f"/proc/{first.pid}/ns/{name}" for name in ("ipc", "net", "pid")} | {"mnt": "", "uts": ""}
    second, watcher = containers.start(containers.spec("sleep", "61", namespaces=joined))
    for kind in ("ipc", "net", "pid"):
        assert namespace_of(second.pid, kind) == namespace_of(first.pid, kind)
    assert namespace_of(second.pid, "mnt") != namespace_of(first.pid, "mnt")
    # PID 1 of the shared namespace ends: the kernel takes everybody else in it along.
    first.signal(9)
    assert watcher.wait().signal == 9


def test_joining_what_is_no_namespace_names_it(containers: Bench) -> None:
    spec = containers.spec("true", namespaces=dict.fromkeys(NAMESPACES, "") | {"net": "/etc/hostname"})
    with pytest.raises(KernelError, match="cannot join the net namespace '/etc/hostname'") as caught:
        containers.run_spec(spec)
    assert caught.value.stage == "namespaces"


def test_an_unknown_namespace_is_refused(containers: Bench) -> None:
    with pytest.raises(InvalidParameter, match="unknown namespace 'time'"):
        containers.run("true", namespaces={"mnt": "", "time": ""})


def test_a_cgroup_namespace_hides_the_path_above(containers: Bench) -> None:
    own = dict.fromkeys((*NAMESPACES, "cgroup"), "")
    paths = {line.rsplit(":", 1)[1] for line in containers.run("cat", "/proc/self/cgroup", namespaces=own).lines}
    assert paths == {"/"}
    shown = {line.rsplit(":", 1)[1] for line in containers.run("cat", "/proc/self/cgroup").lines}
    assert any(path.startswith(containers.parent) for path in shown)


def test_host_and_domain_name(containers: Bench) -> None:
    ran = containers.run(
        "cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", hostname="web", domainname="lab.example"
    )
    assert ran.lines == ["web", "lab.example"]
    assert os.uname().nodename != "web"


def test_default_capabilities_and_mask(containers: Bench) -> None:
    status = containers.run("grep", "^Cap", "/proc/self/status").lines
    assert [line.split()[1] for line in status] == [f"{n:016x}" for n in (0, 0xA80425FB, 0xA80425FB, 0xA80425FB, 0)]


def test_another_user_has_no_effective_capabilities_and_keeps_the_bounding_set(containers: Bench) -> None:
    ran = containers.run("sh", "-c", "id; grep ^Cap /proc/self/status; echo $HOME", process={"user": "bob"})
    assert ran.lines[0] == "uid=1000(bob) gid=1001(bob) groups=50(staff),1001(bob)"
    assert [line.split()[1] for line in ran.lines[1:6]] == [f"{n:016x}" for n in (0, 0, 0, 0xA80425FB, 0)]
    assert ran.lines[6] == "/home/bob"


def test_added_capabilities_of_root(containers: Bench) -> None:
    wanted = (*capabilities.DEFAULT, "CAP_NET_ADMIN")
    caps = Capabilities(bounding=wanted, effective=wanted, permitted=wanted)
    status = containers.run("grep", "^CapEff", "/proc/self/status", process={"capabilities": caps}).lines
    assert int(status[0].split()[1], 16) == 0xA80425FB | 1 << 12


def test_numeric_user_and_group_with_additional_groups(containers: Bench) -> None:
    ran = containers.run("id", process={"user": "4000:50", "additional_groups": ("7",)})
    assert ran.stdout == b"uid=4000 gid=50(staff) groups=7,50(staff)\n"


def test_an_unknown_user_is_named(containers: Bench) -> None:
    with pytest.raises(InvalidParameter, match="unable to find user nosuch: no matching entries in passwd file"):
        containers.run("true", process={"user": "nosuch"})


def test_a_passwd_that_is_a_pipe_does_not_block(containers: Bench) -> None:
    spec = containers.spec("echo", "fine")
    upper = Path(spec.state_dir).parent / "upper"
    (upper / "etc").mkdir()
    os.mkfifo(upper / "etc/passwd")
    assert containers.run_spec(spec).stdout == b"fine\n"


def test_the_process_user_can_open_its_streams_again(containers: Bench) -> None:
    script = "echo one > /dev/stdout; echo two > /dev/stderr"
    ran = containers.run("sh", "-c", script, process={"user": "bob"})
    assert (ran.stdout, ran.stderr) == (b"one\n", b"two\n")


def test_no_new_privileges(containers: Bench) -> None:
    ran = containers.run("grep", "NoNewPrivs", "/proc/self/status", process={"no_new_privileges": True})
    assert ran.stdout.split() == [b"NoNewPrivs:", b"1"]
    assert containers.run("grep", "NoNewPrivs", "/proc/self/status").stdout.split()[1] == b"0"


ALLOW_ALL = bytes([0x06, 0, 0, 0, 0, 0, 0xFF, 0x7F])
"""One BPF instruction: return SECCOMP_RET_ALLOW."""


@pytest.mark.claim("rule-default-seccomp")
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_seccomp_filter_is_loaded(containers: Bench, no_new_privileges: bool) -> None:
    process = {"seccomp": ALLOW_ALL, "no_new_privileges": no_new_privileges}
    ran = containers.run("grep", "^Seccomp:", "/proc/self/status", process=process)
    assert ran.stdout.split()[1] == b"2"


def test_a_filter_that_is_no_program_fails_in_its_stage(containers: Bench) -> None:
    with pytest.raises(KernelError) as caught:
        containers.run("true", process={"seccomp": b"\\xff" * 8})
    assert (caught.value.stage, caught.value.syscall) == ("seccomp", "seccomp")


def test_limits_umask_and_oom_score(containers: Bench) -> None:
    ran = containers.run(
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; umask; cat /proc/self/oom_score_adj",
        process={"rlimits": (Rlimit("nofile", 64, 128),), "oom_score_adj": 500},
    )
    assert ran.lines == ["64", "128", "0022", "500"]


def test_signals_are_not_ignored_as_python_ignores_them(containers: Bench) -> None:
    ran = containers.run("grep", "^Sig[BI]", "/proc/self/status")
    assert [int(line.split()[1], 16) for line in ran.lines] == [0, 0]


def test_descriptors_are_the_three_streams(containers: Bench) -> None:
    ran = containers.run("sh", "-c", "ls /proc/self/fd")
    # The fourth is that of ls itself, which reads the folder.
    assert ran.lines == ["0", "1", "2", "3"]


def test_standard_input_is_null_unless_it_is_open(containers: Bench) -> None:
    assert containers.run("stat", "-L", "-c", "%t:%T", "/proc/self/fd/0").stdout == b"1:3\n"
    assert containers.run("cat", stdin=b"given", process={"open_stdin": True, "stdin_once": True}).stdout == b"given"


def test_working_directory_is_made(containers: Bench) -> None:
    ran = containers.run("pwd", process={"cwd": "/srv/app/deep"})
    assert ran.stdout == b"/srv/app/deep\n"


def test_working_directory_that_is_a_file(containers: Bench) -> None:
    with pytest.raises(KernelError) as caught:
        containers.run("pwd", process={"cwd": "/etc/passwd"})
    assert "/etc/passwd" in caught.value.message


def test_environment_home_and_the_last_of_two_values(containers: Bench) -> None:
    env = ("PATH=/bin", "A=1", "A=2", "EMPTY=", "HOME=/elsewhere")
    lines = containers.run("env", process={"env": env}).lines
    assert lines == ["PATH=/bin", "A=2", "EMPTY=", "HOME=/elsewhere"]
    assert "HOME=/root" in containers.run("env").lines


def test_an_environment_longer_than_a_packet(containers: Bench) -> None:
    env = ("PATH=/bin", *(f"V{number}={'x' * 100_000}" for number in range(10)))
    assert containers.run("sh", "-c", "echo ${#V0} ${#V9}", process={"env": env}).stdout == b"100000 100000\n"


def test_sysctls_are_the_containers_own(containers: Bench) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    wanted = "0" if before.strip() == "1" else "1"
    ran = containers.run(
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/shmmni",
        sysctls={"net.ipv4.ip_forward": wanted, "kernel.shmmni": "77"},
    )
    assert ran.lines == [wanted, "77"]
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_a_sysctl_that_is_not_there(containers: Bench) -> None:
    with pytest.raises(KernelError, match=r"cannot set net\.nosuch=1") as caught:
        containers.run("true", sysctls={"net.nosuch": "1"})
    assert caught.value.stage == "sysctl"


def test_a_terminal_has_its_size_owner_and_carriage_returns(containers: Bench) -> None:
    script = "stty size; tty; stat -c '%u %a' /dev/pts/0; test -t 0 && test -t 1 && test -t 2 && echo three"
    process = {"tty": True, "console_size": (31, 97), "user": "bob"}
    ran = containers.run("sh", "-c", script, process=process)
    assert ran.stdout == b"31 97\r\n/dev/pts/0\r\n1000 620\r\nthree\r\n"


def test_the_terminal_is_the_console_and_controls(containers: Bench) -> None:
    script = "echo console > /dev/console; echo control > /dev/tty; ls -l /dev/console"
    lines = containers.run("sh", "-c", script, process={"tty": True}).stdout.decode().split("\r\n")
    assert lines[:2] == ["console", "control"]
    assert lines[2].startswith("crw--w----")


def test_input_through_a_terminal(containers: Bench) -> None:
    process = {"tty": True, "open_stdin": True, "env": ("PATH=/bin", "PS1=")}
    ran = containers.run("sh", stdin=b"echo $((40+2))end; exit 5\n", process=process)
    assert b"42end\r\n" in ran.stdout
    assert ran.record.exit_code == 5


def test_a_terminal_is_made_by_the_kernels_multiplexer_only(containers: Bench) -> None:
    """CVE-2025-52565: what an image has at /dev/pts/ptmx would get bytes that were meant for a terminal."""
    mounts = tuple(mount for mount in MOUNTS if not mount.target.startswith("/dev"))
    spec = containers.spec("true", mounts=mounts, devices=(), process={"tty": True})
    folder = Path(spec.state_dir).parent / "upper/dev/pts"
    folder.mkdir(parents=True)
    (folder / "ptmx").write_text("not a terminal")
    with pytest.raises(KernelError, match="is not a pseudo-terminal multiplexer"):
        containers.run_spec(spec)
    assert (folder / "ptmx").read_text() == "not a terminal"


def test_resize_reaches_the_process(containers: Bench) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    spec = containers.spec("sh", "-c", script, process={"tty": True, "console_size": (10, 20)})
    import socket

    ours, theirs = socket.socketpair()
    with ours:
        process, watcher = containers.start(spec, theirs)
        ours.settimeout(10)
        assert ours.recv(100) == b"ready\r\n"
        process.resize(40, 120)
        assert ours.recv(100) == b"40 120\r\n"
        assert watcher.wait().exit_code == 0


@pytest.mark.parametrize(
    ("command", "message", "number"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH', 2),
        ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory', 2),
        ("/etc", 'exec: "/etc": is a directory', 21),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 13),
        ("/etc/passwd/x", 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory', 20),
    ],
)
def test_commands_that_cannot_run_leave_nothing(containers: Bench, command: str, message: str, number: int) -> None:
    spec = containers.spec(command)
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert (caught.value.message, caught.value.errno, caught.value.stage) == (message, number, "exec")
    assert not containers.cgroup_exists(spec)
    assert os.listdir(spec.state_dir) == []


def test_a_file_of_no_known_format(containers: Bench) -> None:
    spec = containers.spec("/tool")
    upper = Path(spec.state_dir).parent / "upper"
    (upper / "tool").write_bytes(b"\x01\x02\x03")
    (upper / "tool").chmod(0o755)
    with pytest.raises(KernelError, match="exec /tool: exec format error"):
        containers.run_spec(spec)


def test_a_script_whose_interpreter_is_missing(containers: Bench) -> None:
    spec = containers.spec("/tool")
    upper = Path(spec.state_dir).parent / "upper"
    (upper / "tool").write_text("#!/no/such/sh\n")
    (upper / "tool").chmod(0o755)
    with pytest.raises(KernelError, match="exec /tool: no such file or directory"):
        containers.run_spec(spec)


@pytest.mark.claim("libcontainer-isolates-then-starts")
def test_stages_tell_where_the_time_went(containers: Bench) -> None:
    process, _ = containers.start(containers.spec("sleep", "60"))
    stages: dict[str, int] = process.stages  # type: ignore[attr-defined]
    assert list(stages) == [
        "fork",
        "namespaces",
        "rootfs",
        "mounts",
        "devices",
        "cgroup",
        "masks",
        "security",
        "exec",
    ]
    assert all(0 < spent < 10**10 for spent in stages.values())
    process.signal(9)


@pytest.mark.claim("isolation-user")
def test_a_user_namespace_maps_root_to_another(containers: Bench) -> None:
    mapping = (IdMapping(0, 100_000, 65_536),)
    spec = containers.spec(
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; touch /made; ls /dev/null && echo > /dev/null && echo fine",
        namespaces=dict.fromkeys((*NAMESPACES, "user"), ""),
        uid_mappings=mapping,
        gid_mappings=mapping,
    )
    folder = Path(spec.state_dir).parent
    for name in ("upper", "work", "state"):
        os.chown(folder / name, 100_000, 100_000)
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o5 != 0o5 and str(above) != "/":
            above.chmod(above.stat().st_mode | 0o5)
    ran = containers.run_spec(spec)
    assert ran.stderr == b""
    assert [line.split() for line in ran.lines] == [["0"], ["0", "100000", "65536"], ["/dev/null"], ["fine"]]
    assert (folder / "upper/made").stat().st_uid == 100_000


def test_the_launchers_program_cannot_be_written_from_inside(containers: Bench) -> None:
    """CVE-2019-5736: a process that is still the launcher's copy must not lead to the host's interpreter."""
    process, _ = containers.start(containers.spec("sleep", "60"))
    interpreter = os.path.realpath(f"/proc/{containers.launcher.pid}/exe")
    fd = os.open(f"/proc/{containers.launcher.pid}/exe", os.O_PATH)
    try:
        mount_id = next(
            line.split()[1] for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines() if "mnt_id" in line
        )
        known = {line.split()[0] for line in Path("/proc/thread-self/mountinfo").read_text().splitlines()}
        assert mount_id not in known, f"the launcher runs {interpreter} from a mount of the host"
        with pytest.raises(OSError, match=r"Read-only|busy"):
            os.open(f"/proc/{containers.launcher.pid}/exe", os.O_WRONLY)
    finally:
        os.close(fd)
    process.signal(9)


def test_no_module_of_the_image_is_ever_imported(containers: Bench) -> None:
    """Between pivot_root and execve the interpreter is still there: what it imported would be the image's, as root."""
    spec = containers.spec("true", process={"rlimits": (Rlimit("nofile", 10, 10),), "oom_score_adj": 7})
    upper = Path(spec.state_dir).parent / "upper"
    for entry in {path for path in sys.path if path.startswith("/")} | {os.path.dirname(os.__file__)}:
        for name in ("traceback", "encodings/ascii", "encodings/idna", "apparmor", "pyker/libcontainer/apparmor"):
            trap = upper / entry.lstrip("/") / f"{name}.py"
            trap.parent.mkdir(parents=True, exist_ok=True)
            trap.write_text("open('/caught', 'w').close()")
    containers.run_spec(spec)
    with pytest.raises(NotSupported, match="AppArmor"):
        containers.run_spec(
            msgspec.structs.replace(spec, process=msgspec.structs.replace(spec.process, apparmor_profile="x"))
        )
    assert not (upper / "caught").exists()


def test_a_copy_of_the_launcher_imports_nothing_and_cannot_be_traced() -> None:
    program = (
        "from pyker.libcontainer import credentials, syscalls\n"
        "credentials.detach('x')\n"
        "print(syscalls.prctl(3))\n"
        "try:\n    import wave\nexcept ModuleNotFoundError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "refused"]


def test_proc_must_not_be_a_symlink(containers: Bench) -> None:
    spec = containers.spec("true")
    upper = Path(spec.state_dir).parent / "upper"
    (upper / "elsewhere").mkdir()
    (upper / "proc").symlink_to("elsewhere")
    with pytest.raises(KernelError) as caught:
        containers.run_spec(spec)
    assert caught.value.stage == "mounts"


@pytest.mark.requires("cgroup-v1")
def test_a_cgroup_mount_shows_only_the_containers_own(containers: Bench) -> None:
    ran = containers.run("sh", "-c", "ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs | head -1")
    assert "pids" in ran.lines
    assert ran.lines[-1] == "1"


@pytest.mark.requires("cgroup-v1")
def test_cgroups_are_read_only_inside_unless_asked_otherwise(containers: Bench) -> None:
    lines = [line.split() for line in containers.run("cat", "/proc/self/mountinfo").lines]
    flags = {line[4]: line[5].split(",")[0] for line in lines if line[4].startswith("/sys/fs/cgroup")}
    assert set(flags.values()) == {"ro"}
    writable = tuple(replace(each, options=QUIET) if each.fstype == "cgroup" else each for each in MOUNTS)
    lines = [line.split() for line in containers.run("cat", "/proc/self/mountinfo", mounts=writable).lines]
    flags = {line[4]: line[5].split(",")[0] for line in lines if line[4].startswith("/sys/fs/cgroup")}
    assert set(flags.values()) == {"rw"}
