"""The document's second walkthrough: docker run, as two requests, create and start, and what comes of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conformance.conftest import Client, Shelf
from tests.support.compare import Alike
from tests.support.engines import Engine
from tests.support.recorder import Recorder
from tests.support.sandbox import wait_until


@pytest.mark.claim("run-purpose", "container-command", "client-one-life", "accept-docker-cli")
def test_run_prints_what_the_command_prints(alike: Alike, cli: Client) -> None:
    done = alike("run", "--rm", alike.pulled(), "echo", "hi", cli=cli.argv)
    assert (done.code, done.out, done.err) == (0, "hi\n", "")


@pytest.mark.claim(
    "run-two-requests",
    "run-first-post",
    "run-second-request",
    "rule-run-order",
    "rule-hijack",
    "start-is-another-request",
    "run-first-status",
)
def test_run_asks_create_attach_wait_start(cli: Client, busybox: str, recorder: Recorder) -> None:
    done = cli("run", "--rm", busybox, "true", host=recorder.host)
    assert done.code == 0, done
    asked = [
        (e.method, re.sub(r"[0-9a-f]{64}", "ID", e.path), e.status) for e in recorder.exchanges if e.path != "/_ping"
    ]
    assert asked[:2] == [("POST", "/containers/create", 201), ("POST", "/containers/ID/attach", 101)]
    assert asked[2:4] == [("POST", "/containers/ID/wait", 200), ("POST", "/containers/ID/start", 204)]


@pytest.mark.claim("accept-docker-cli", "POST /containers/create", "run-purpose")
def test_detached_run_prints_the_id(cli: Client, engine: Engine, busybox: str, name: str) -> None:
    done = cli("run", "-d", "--name", name, busybox, "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.out), done
    assert engine.inspect(name)["Id"] == done.out.strip()


@pytest.mark.claim(
    "run-second-depends",
    "shape-run-missing-image",
    "rule-create-missing-image",
    "summary-registry-when-missing",
    "overview-image-from-registry",
)
def test_missing_image_is_pulled(cli: Client, engine: Engine, shelf: Shelf) -> None:
    reference = shelf.add(f"run/missing-{cli.name}:1", label=f"missing-{cli.name}")
    done = cli("run", "--rm", reference, "echo", "pulled")
    assert (done.code, done.out) == (0, "pulled\n"), done
    assert done.err.splitlines()[0] == f"Unable to find image '{reference}' locally"
    assert f"Status: Downloaded newer image for {reference}" in done.err


@pytest.mark.claim("rule-stream-frames", "rule-wait", "accept-docker-cli", "POST /containers/{id}/attach")
def test_streams_are_apart_and_the_exit_code_is_the_commands(alike: Alike, cli: Client) -> None:
    done = alike("run", "--rm", alike.pulled(), "sh", "-c", "echo o; echo e >&2; exit 3", cli=cli.argv)
    assert (done.code, done.out, done.err) == (3, "o\n", "e\n")


@pytest.mark.claim("rule-half-close", "break-attach-half-close", "POST /containers/{id}/attach")
def test_stdin_reaches_the_command_and_its_end_too(alike: Alike, cli: Client) -> None:
    done = alike("run", "-i", "--rm", alike.pulled(), "cat", input="stdin-data", cli=cli.argv)
    assert (done.code, done.out) == (0, "stdin-data"), done


@pytest.mark.claim("rule-half-close", "rule-drain", "POST /containers/{id}/attach")
def test_a_megabyte_through_cat(alike: Alike, cli: Client) -> None:
    text = "0123456789abcdef" * 65536
    done = alike("run", "-i", "--rm", alike.pulled(), "cat", input=text, cli=cli.argv)
    assert done.code == 0 and done.out == text


@pytest.mark.claim("rule-start-failure", "accept-docker-cli", "POST /containers/{id}/start")
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["nosuchcmd"], 127, r"executable file not found in \$PATH"),
        (["/nosuch/path"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "is a directory|permission denied"),
    ],
)
def test_commands_that_cannot_run(alike: Alike, cli: Client, command: list[str], code: int, words: str) -> None:
    done = alike("run", "--rm", alike.pulled(), *command, only="code out", cli=cli.argv)
    assert done.code == code, done
    assert re.search(words, done.err), done


@pytest.mark.claim("accept-docker-cli", "registry-errors")
def test_unknown_image_exits_125(alike: Alike, cli: Client, shelf: Shelf) -> None:
    done = alike("run", "--rm", f"{shelf.registry.address}/no/such:1", only="code out", cli=cli.argv)
    assert done.code == 125 and "not found: manifest unknown" in done.err, done


@pytest.mark.claim("accept-docker-cli", "run-client-parses")
def test_unknown_flag_exits_125(alike: Alike, cli: Client) -> None:
    done = alike("run", "--no-such-flag", "x", only="code out", cli=cli.argv)
    assert done.code == 125 and "unknown flag: --no-such-flag" in done.err, done


@pytest.mark.claim("POST /containers/{id}/kill", "POST /containers/{id}/wait", "rule-kill", "accept-docker-cli")
def test_signal_death_is_128_plus_the_signal(alike: Alike, cli: Client) -> None:
    name = alike.name
    alike("run", "-d", "--name", name, alike.pulled(), "sleep", "60", cli=cli.argv)
    assert alike("kill", name, cli=cli.argv).out == f"{name}\n"
    assert alike("wait", name, cli=cli.argv).out == "137\n"
    assert alike.agree(lambda engine: engine.state(name)["Status"]) == "exited"


@pytest.mark.claim("rule-auto-remove")
def test_rm_leaves_no_container(cli: Client, engine: Engine, busybox: str, name: str) -> None:
    cli("run", "--rm", "--name", name, busybox, "true")
    wait_until(lambda: engine.request("GET", f"/containers/{name}/json").status == 404, what="the removal")


def _facts(engine: Engine, busybox: str, name: str, *flags: str) -> int:
    engine.docker("run", "-d", "--name", name, *flags, busybox, "sleep", "300", check=True)
    pid = engine.state(name)["Pid"]
    assert isinstance(pid, int) and pid > 0
    return pid


def _namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.claim(
    "execdriver-namespaces",
    "libcontainer-namespaces",
    "isolation-mount",
    "isolation-uts",
    "isolation-ipc",
    "isolation-pid",
    "isolation-network",
    "run-second-isolates",
)
@pytest.mark.parametrize("kind", ["mnt", "uts", "ipc", "pid", "net"])
def test_five_namespaces_are_its_own(engine: Engine, busybox: str, name: str, kind: str) -> None:
    pid = _facts(engine, busybox, name)
    assert _namespace(pid, kind) not in {_namespace("self", kind), _namespace(engine.pid, kind)}


@pytest.mark.claim("isolation-pid")
def test_init_is_pid_1_and_sees_only_its_own(alike: Alike) -> None:
    done = alike("run", "--rm", alike.pulled(), "sh", "-c", "echo $$; ls -d /proc/[0-9]*")
    assert done.out.splitlines()[0] == "1"
    assert "/proc/1" in done.out and len(done.out.splitlines()) <= 3, done


@pytest.mark.claim("network-type-host", "rule-namespace-modes")
def test_host_network_is_the_engines(engine: Engine, busybox: str, name: str) -> None:
    pid = _facts(engine, busybox, name, "--network", "host")
    assert _namespace(pid, "net") == _namespace(engine.pid, "net")


@pytest.mark.claim("network-type-null", "rule-namespace-modes")
def test_no_network_has_only_loopback(alike: Alike) -> None:
    done = alike("run", "--rm", "--network", "none", alike.pulled(), "ls", "/sys/class/net")
    assert done.out.split() == ["lo"], done


@pytest.mark.claim(
    "network-type-bridge",
    "network-own-interface",
    "network-address",
    "network-interface-address-ports",
    "netlink-configures",
    "run-second-network",
    "run-second-netlink",
)
def test_bridge_gives_an_address_and_a_route(engine: Engine, busybox: str, name: str) -> None:
    _facts(engine, busybox, name)
    settings = engine.inspect(name)["NetworkSettings"]
    assert isinstance(settings, dict)
    bridge = settings["Networks"]["bridge"]
    shown = engine.docker("exec", name, "ip", "-4", "addr", "show", "eth0", check=True).out
    assert f"inet {bridge['IPAddress']}/{bridge['IPPrefixLen']}" in shown
    route = engine.docker("exec", name, "ip", "route", check=True).out
    assert f"default via {bridge['Gateway']} dev eth0" in route
    assert bridge["MacAddress"] in engine.docker("exec", name, "cat", "/sys/class/net/eth0/address").out


@pytest.mark.claim("rule-network-share", "rule-namespace-modes")
def test_container_network_is_shared(engine: Engine, busybox: str, name: str) -> None:
    pid = _facts(engine, busybox, name)
    done = engine.docker("run", "--rm", "--network", f"container:{name}", busybox, "readlink", "/proc/self/ns/net")
    assert done.out.strip() == _namespace(pid, "net"), done


@pytest.mark.claim("network-type-bridge", "libcontainer-network-devices")
def test_two_containers_reach_each_other(engine: Engine, busybox: str, name: str) -> None:
    _facts(engine, busybox, name)
    address = engine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]  # type: ignore[index,call-overload]
    engine.docker("exec", "-d", name, "sh", "-c", "while true; do echo hello | nc -l -p 7000; done", check=True)
    # Between two clients nobody listens, and one that is there first hears nothing.
    script = (
        f'for i in $(seq 100); do heard=$(nc {address} 7000 </dev/null) && [ "$heard" ] && break; usleep 100000; done; '
        'echo "heard $heard"'
    )
    done = engine.docker("run", "--rm", busybox, "sh", "-c", script)
    assert done.out == "heard hello\n", done


@pytest.mark.claim("network-ports", "rule-network-firewall", "libcontainer-firewall", "rule-network-ports")
def test_published_port_answers_on_localhost(engine: Engine, busybox: str, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "-p", "127.0.0.1:18080:80", "-p", "18081:80", busybox,
        "sh", "-c", "mkdir /w; echo page > /w/index.html; httpd -f -p 80 -h /w", check=True,
    )  # fmt: skip
    for url in ("http://127.0.0.1:18080/", "http://127.0.0.1:18081/"):
        script = f"for i in $(seq 100); do busybox wget -qO- {url} && exit 0; sleep 0.1; done; exit 1"
        done = engine.sandbox.run(["sh", "-c", script], check=False)
        assert done.stdout == b"page\n", (url, done)


@pytest.mark.claim("rule-network-ports", "break-ports")
def test_port_zero_gets_a_port_before_start_returns(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-p", "80", busybox, "sleep", "60", check=True)
    ports = engine.inspect(name)["NetworkSettings"]["Ports"]  # type: ignore[index,call-overload]
    assert int(ports["80/tcp"][0]["HostPort"]) > 1024
    shown = engine.docker("port", name, "80").out
    assert f"0.0.0.0:{ports['80/tcp'][0]['HostPort']}" in shown


@pytest.mark.claim("rule-port-taken", "break-ports")
def test_port_in_use_is_500_and_leaves_the_container_created(alike: Alike) -> None:
    image, other = alike.pulled(), f"{alike.name}-other"
    alike("run", "-d", "--name", alike.name, "-p", "17777:80", image, "sleep", "60")
    done = alike("run", "-d", "--name", other, "-p", "17777:80", image, "sleep", "60")
    assert done.code == 125 and "port is already allocated" in done.err, done
    state = alike.agree(lambda engine: {key: engine.state(other)[key] for key in ("Status", "ExitCode")})
    assert state == {"Status": "created", "ExitCode": 128}


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _agreed_status(alike: Alike, flags: list[str], *keys: str) -> dict[str, str]:
    """Lines of the status of a container's first process, which the reference's has too."""
    image = alike.pulled()

    def status(engine: Engine) -> dict[str, str]:
        found = _status(_facts(engine, image, alike.name, *flags))
        return {key: found[key] for key in keys}

    return alike.agree(status)


@pytest.mark.claim("rule-default-capabilities", "rule-default-seccomp", "overview-running-container")
def test_default_capabilities_and_seccomp(alike: Alike) -> None:
    wanted = {
        **dict.fromkeys(("CapPrm", "CapEff", "CapBnd"), "00000000a80425fb"),
        **dict.fromkeys(("CapInh", "CapAmb"), "0" * 16),
        "Seccomp": "2",
        "NoNewPrivs": "0",
    }
    assert _agreed_status(alike, [], *wanted) == wanted


@pytest.mark.claim("rule-user", "rule-default-capabilities")
def test_another_user_has_no_effective_capabilities(alike: Alike) -> None:
    status = _agreed_status(alike, ["-u", "33:33"], "Uid", "Gid", "CapEff", "CapPrm", "CapBnd")
    assert (status["Uid"].split(), status["Gid"].split()) == (["33"] * 4, ["33"] * 4)
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == ("0" * 16, "0" * 16, "00000000a80425fb")


@pytest.mark.claim("rule-default-capabilities", "rule-default-seccomp")
@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (["--cap-drop", "ALL"], "CapBnd", "0000000000000000"),
        (["--cap-drop", "ALL", "--cap-add", "CHOWN"], "CapBnd", "0000000000000001"),
        (["--cap-add", "net_admin"], "CapEff", "00000000a80435fb"),
        (["--cap-add", "CAP_SYS_PTRACE"], "CapEff", "00000000a80c25fb"),
        (["--cap-drop", "mknod"], "CapEff", "00000000a00425fb"),
        (["--security-opt", "no-new-privileges"], "NoNewPrivs", "1"),
        (["--security-opt", "seccomp=unconfined"], "Seccomp", "0"),
    ],
)
def test_security_flags(alike: Alike, flags: list[str], field: str, value: str) -> None:
    status = _agreed_status(alike, flags, "CapBnd", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp")
    assert status[field] == value


@pytest.mark.claim(
    "rule-user",
    "rule-ulimits",
    "rule-tmpfs",
    "rule-create-environment",
    "rule-default-mounts",
    "rule-network-hosts-file",
    "libcontainer-devices",
)
@pytest.mark.parametrize(
    ("flags", "command", "output"),
    [
        (["-e", "A=1", "-e", "B=x y"], "echo $A-$B", "1-x y\n"),
        (["-w", "/tmp"], "pwd", "/tmp\n"),
        (["-w", "/made/here"], "pwd", "/made/here\n"),
        (["-u", "www"], "id -un; id -gn; echo $HOME", "www\nwww\n/var/www\n"),
        (["-u", "1234:4321"], "id -u; id -g; echo $HOME", "1234\n4321\n/\n"),
        (["--hostname", "box"], "hostname; cat /etc/hostname", "box\nbox\n"),
        (["--domainname", "example.test"], "cat /proc/sys/kernel/domainname", "example.test\n"),
        (["--entrypoint", "echo"], "x", None),
        (["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn", "100\n200\n"),
        (["--ulimit", "core=0"], "ulimit -c", "0\n"),
        (["--tmpfs", "/scratch:size=64k"], "grep ' /scratch ' /proc/mounts", None),
        (["--shm-size", "1m"], "df -k /dev/shm | awk 'END{print $2}'", "1024\n"),
        (["--group-add", "wheel"], "id -G", "0 10\n"),
        (["--add-host", "db:10.1.2.3"], "grep -w db /etc/hosts", "10.1.2.3\tdb\n"),
        (["--dns", "10.9.9.9"], "grep ^nameserver /etc/resolv.conf", "nameserver 10.9.9.9\n"),
        (["--sysctl", "net.ipv4.ip_default_ttl=77"], "cat /proc/sys/net/ipv4/ip_default_ttl", "77\n"),
        (["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj", "500\n"),
        (["--device", "/dev/loop0:/dev/mine:r"], "ls -l /dev/mine | cut -c1", "b\n"),
        ([], "umask", "0022\n"),
        ([], "cat /proc/self/oom_score_adj", "0\n"),
        ([], "echo $PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
        ([], "for i in fd stdin stdout stderr ptmx; do readlink /dev/$i; done",
         "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"),
        ([], "ls -A /dev | grep -v core | sort | tr '\\n' ' '",
         "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "),
        ([], "cat /dev/null && echo x > /dev/null && head -c 4 /dev/zero | wc -c", "4\n"),
        ([], "ls -a / | grep dockerenv", ".dockerenv\n"),
    ],
)  # fmt: skip
def test_flags_have_their_effect(alike: Alike, flags: list[str], command: str, output: str | None) -> None:
    arguments = [command] if "--entrypoint" in flags else ["sh", "-c", command]
    done = alike("run", "--rm", *flags, alike.pulled(), *arguments)
    assert done.code == 0, done
    if output is not None:
        assert done.out == output
    elif "--entrypoint" in flags:
        assert done.out == "x\n"
    else:
        assert "size=64k" in done.out and "nosuid,nodev,noexec" in done.out


@pytest.mark.claim("rule-read-only")
def test_read_only_root(alike: Alike) -> None:
    script = "touch /x 2>/dev/null || echo refused; touch /dev/shm/y && touch /t/z && echo written"
    done = alike("run", "--rm", "--read-only", "--tmpfs", "/t", alike.pulled(), "sh", "-c", script)
    assert done.out == "refused\nwritten\n", done


@pytest.mark.claim("rule-masked-paths", "overview-running-container")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/proc/sys/kernel/printk", "Read-only file system"),
        ("/proc/sysrq-trigger", "Read-only file system|nonexistent"),
        ("/sys/kernel/uevent_helper", "Read-only file system|nonexistent|No such"),
    ],
)
def test_kernel_files_cannot_be_written(alike: Alike, path: str, words: str) -> None:
    done = alike("run", "--rm", alike.pulled(), "sh", "-c", f"echo x > {path}")
    assert done.code != 0 and re.search(words, done.err), done


@pytest.mark.claim("rule-masked-paths", "overview-running-container")
@pytest.mark.parametrize(
    "path", ["/proc/keys", "/proc/timer_list", "/proc/kcore", "/proc/latency_stats", "/proc/sched_debug"]
)
def test_masked_files_are_empty(alike: Alike, path: str) -> None:
    done = alike("run", "--rm", alike.pulled(), "sh", "-c", f"[ -e {path} ] && head -c 10 {path} | wc -c || echo 0")
    assert done.out.strip() == "0", done


@pytest.mark.claim("rule-mount-modes")
def test_bind_mount_both_ways(engine: Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    script = "cat /data/in; echo from inside > /data/out"
    done = engine.docker("run", "--rm", "-v", f"{tmp_path}:/data", busybox, "sh", "-c", script)
    assert done.out == "from outside\n", done
    assert (tmp_path / "out").read_text() == "from inside\n"


@pytest.mark.claim("rule-mount-modes")
def test_read_only_bind(alike: Alike, tmp_path: Path) -> None:
    done = alike("run", "--rm", "-v", f"{tmp_path}:/data:ro", alike.pulled(), "touch", "/data/x")
    assert done.code == 1 and "Read-only file system" in done.err, done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.claim("rule-volume-copy-up", "break-volumes", "disk-volumes")
def test_named_volume_keeps_and_copies_up(engine: Engine, busybox: str, name: str) -> None:
    volume = f"v-{name}"
    try:
        script = "cat /etc/passwd | head -1; echo kept > /etc/kept"
        done = engine.docker("run", "--rm", "-v", f"{volume}:/etc", busybox, "sh", "-c", script)
        assert done.out.startswith("root:x:0:0"), done
        again = engine.docker("run", "--rm", "-v", f"{volume}:/v", busybox, "cat", "/v/kept")
        assert again.out == "kept\n", again
        assert (engine.data_root / "volumes" / volume / "_data" / "kept").is_file()
    finally:
        engine.request("DELETE", f"/volumes/{volume}?force=1")


@pytest.mark.claim("rule-create-validation", "rule-mount-modes")
def test_mount_of_a_missing_source_is_refused(alike: Alike, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = alike("run", "--rm", "--mount", f"type=bind,source={missing},target=/x", alike.pulled(), "true")
    assert done.code == 125 and f"bind source path does not exist: {missing}" in done.err, done
    assert not missing.exists()


def _cgroup(pid: int, controller: str) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return Path("/sys/fs/cgroup") / controller / path.lstrip("/")
    return Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().split("::", 1)[1].strip().lstrip("/")


@pytest.mark.claim(
    "limit-memory",
    "limit-cpu",
    "limit-processes",
    "rule-resources",
    "execdriver-limits",
    "libcontainer-restrictions",
    "run-second-limits",
    "container-quota",
)
@pytest.mark.requires("cgroup-v1")
@pytest.mark.parametrize(
    ("flags", "controller", "file", "value"),
    [
        (["--memory", "64m"], "memory", "memory.limit_in_bytes", "67108864"),
        (["--memory", "64m", "--memory-reservation", "32m"], "memory", "memory.soft_limit_in_bytes", "33554432"),
        (["--cpus", "0.75"], "cpu", "cpu.cfs_quota_us", "75000"),
        (["--cpu-shares", "512"], "cpu", "cpu.shares", "512"),
        (["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "0"),
        (["--pids-limit", "17"], "pids", "pids.max", "17"),
    ],
)
def test_limits_are_in_the_cgroup(alike: Alike, flags: list[str], controller: str, file: str, value: str) -> None:
    image = alike.pulled()

    def written(engine: Engine) -> str:
        pid = _facts(engine, image, alike.name, *flags)
        return (_cgroup(pid, controller) / file).read_text().strip()

    assert alike.agree(written) == value


@pytest.mark.claim("libcontainer-cgroups", "run-second-isolates")
def test_the_cgroup_goes_with_the_container(engine: Engine, busybox: str, name: str) -> None:
    folder = _cgroup(_facts(engine, busybox, name), "pids")
    assert folder.is_dir()
    engine.docker("rm", "-f", name, check=True)
    wait_until(lambda: not folder.exists(), what="the removal of the cgroup")


@pytest.mark.claim("limit-processes", "libcontainer-restrictions")
def test_fork_bomb_meets_its_limit(engine: Engine, busybox: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait; echo end"
    done = engine.docker("run", "--rm", "--pids-limit", "5", busybox, "sh", "-c", script)
    assert "can't fork" in done.err, done


@pytest.mark.claim("rule-oom", "limit-memory")
def test_out_of_memory_is_reported(engine: Engine, busybox: str, name: str) -> None:
    done = engine.docker(
        "run",
        "--name",
        name,
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        busybox,
        "sh",
        "-c",
        "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo $?",
    )
    # It is told by another event than the end is.
    wait_until(lambda: engine.state(name)["OOMKilled"] is True, what=f"OOMKilled after {done}")


@pytest.mark.claim("rule-default-devices", "libcontainer-devices")
@pytest.mark.parametrize("device", ["/dev/vda", "/dev/kmsg"])
def test_devices_are_refused(alike: Alike, device: str) -> None:
    if not os.path.exists(device):
        pytest.skip(f"no {device} here")
    info = os.stat(device)
    kind = "b" if os.path.realpath(device) != "/dev/kmsg" else "c"
    script = f"mknod /tmp/d {kind} {os.major(info.st_rdev)} {os.minor(info.st_rdev)} && head -c 1 /tmp/d"
    done = alike("run", "--rm", alike.pulled(), "sh", "-c", script)
    assert done.code != 0 and "Operation not permitted" in done.err, done


@pytest.mark.claim("rule-init")
def test_init_reaps(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--init", "--name", name, busybox, "sleep", "60", check=True)
    out = engine.docker("exec", name, "cat", "/proc/1/comm", check=True).out.strip()
    assert out in {"docker-init", "tini"}, out


@pytest.mark.claim("GET /events", "rule-events")
def test_events_of_a_run_in_order(engine: Engine, busybox: str, name: str) -> None:
    since = engine.docker("run", "--rm", busybox, "date", "+%s", check=True).out.strip()
    engine.docker("run", "--name", name, busybox, "true", check=True)
    engine.docker("rm", name, check=True)
    until = str(int(engine.docker("run", "--rm", busybox, "date", "+%s", check=True).out.strip()) + 1)
    out = engine.docker("events", "--since", since, "--until", until, "--format", "{{json .}}").out
    rows = [json.loads(line) for line in out.splitlines()]
    mine = [
        (row["Type"], row["Action"])
        for row in rows
        if row["Actor"]["Attributes"].get("name") == name or row["Type"] == "network"
    ]
    container = [action for kind, action in mine if kind == "container"]
    assert container == ["create", "attach", "start", "die", "destroy"], mine


@pytest.mark.claim("POST /containers/{id}/resize", "rule-resize", "rule-stream-frames")
def test_terminal_has_the_size_that_was_asked_for(engine: Engine, busybox: str) -> None:
    """A terminal of 33 lines by 111 columns, given by the client's own terminal."""
    import fcntl
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    script = (
        "for i in $(seq 400); do s=$(stty size); [ \"$s\" = '33 111' ] && break; usleep 50000; done; echo size=$s; tty"
    )
    process = subprocess.Popen(
        ["docker", "run", "-it", "--rm", busybox, "sh", "-c", script],
        stdin=child, stdout=child, stderr=child, start_new_session=True,
        env={**engine.environment(), "DOCKER_HOST": engine.host},
    )  # fmt: skip
    os.close(child)
    output = b""
    try:
        while data := os.read(parent, 4096):
            output += data
    except OSError:
        pass
    finally:
        os.close(parent)
    assert process.wait(30) == 0
    assert b"size=33 111\r\n" in output and b"/dev/pts/0\r\n" in output, output
