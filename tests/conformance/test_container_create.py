"""``POST /containers/create``: what is refused and in which words, what is taken from the image, what is filled in."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.conftest import Shelf
from tests.support.asking import message
from tests.support.compare import Alike
from tests.support.containers import create, finished, joined, output
from tests.support.engines import Engine

pytestmark = pytest.mark.claim("POST /containers/create")

_PORT = {"ExposedPorts": {"80/tcp": {}}}
_LOCAL_NAME = (
    'create {0}: "{0}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
    "allowed. If you intended to pass a host directory, use absolute path"
)


def _refused(alike: Alike, body: dict[str, object], *, old_statuses: Collection[int] = ()) -> tuple[int, str]:
    """Status and message of a creation that must leave nothing.

    ``old_statuses``: those that engines give which are older than the 400 of today.
    """
    image, name = alike.pulled(), alike.name

    def ask(engine: Engine) -> tuple[int, str]:
        whole = {"Image": image, "Cmd": ["true"], **body}
        reply = engine.request("POST", f"/v1.41/containers/create?name={name}", whole)
        assert engine.request("GET", f"/containers/{name}/json").status == 404
        return 400 if reply.status in old_statuses else reply.status, message(reply)

    return alike.agree(ask)


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize("body", [{}, {"HostConfig": {}}], ids=["nothing", "only-host-config"])
def test_an_empty_configuration(engine: Engine, name: str, body: dict[str, object]) -> None:
    reply = engine.request("POST", f"/containers/create?name={name}", body)
    assert (reply.status, message(reply)) == (400, "Config cannot be empty in order to create a container")


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        (
            {"Memory": 67108864, "MemorySwap": 33554432},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({"MemorySwap": 33554432}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            {"Memory": 67108864, "MemoryReservation": 134217728},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"MemoryReservation": 1000}, "Minimum memory reservation allowed is 6MB"),
        ({"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        (
            {"NanoCpus": 10**9, "CpuQuota": 5000},
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            {"NanoCpus": 10**9, "CpuPeriod": 5000},
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpusetCpus": "abc"}, "Invalid value abc for cpuset cpus: invalid format: abc"),
        ({"OomScoreAdj": 2000}, "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_limits_that_cannot_be(alike: Alike, host_config: dict[str, object], words: str) -> None:
    assert _refused(alike, {"HostConfig": host_config}) == (400, words)


@pytest.mark.claim("rule-create-missing-image")
@pytest.mark.parametrize("platform", ["windows/amd64", "linux/s390x"])
def test_an_image_that_is_there_for_another_platform(engine: Engine, busybox: str, name: str, platform: str) -> None:
    """Which clients take for one that is missing: they pull it."""
    body = {"Image": busybox, "Cmd": ["true"]}
    reply = engine.request("POST", f"/containers/create?name={name}&platform={platform}", body)
    assert reply.status == 404
    assert f"image with reference {busybox} was found but" in message(reply)
    assert platform in message(reply)


@pytest.mark.claim("POST /containers/create")
def test_an_image_for_the_platform_that_was_asked_for(engine: Engine, busybox: str, name: str) -> None:
    info: Any = engine.request("GET", "/version").json()
    body = {"Image": busybox, "Cmd": ["true"]}
    reply = engine.request("POST", f"/containers/create?name={name}&platform=linux/{info['Arch']}", body)
    assert reply.status == 201, reply


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize("cpus", [-1, 10**15])
def test_more_processors_than_there_are(alike: Alike, engine: Engine, cpus: int) -> None:
    status, words = _refused(alike, {"HostConfig": {"NanoCpus": cpus}})
    info: Any = engine.request("GET", "/info").json()
    there = info["NCPU"]
    assert (status, words) == (
        400,
        f"Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available",
    )


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize(
    ("host_config", "words"),
    [
        ({"CpusetCpus": "1000"}, r"Requested CPUs are not available - requested 1000, available: [0-9,-]+"),
        ({"CpusetMems": "1000"}, r"Requested memory nodes are not available - requested 1000, available: [0-9,-]+"),
    ],
    ids=["cpus", "mems"],
)
def test_a_cpuset_that_is_not_there(alike: Alike, host_config: dict[str, object], words: str) -> None:
    status, found = _refused(alike, {"HostConfig": host_config})
    assert status == 400 and re.fullmatch(words, found), found


@pytest.mark.claim("rule-create-validation", "rule-restart-policies")
@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"Name": "sometimes"}, "invalid restart policy 'sometimes'"),
        (
            {"Name": "unless-stopped", "MaximumRetryCount": 2},
            "maximum retry count cannot be used with restart policy 'unless-stopped'",
        ),
        ({"Name": "no", "MaximumRetryCount": 2}, "maximum retry count cannot be used with restart policy 'no'"),
        ({"Name": "on-failure", "MaximumRetryCount": -2}, "maximum retry count cannot be negative"),
    ],
    ids=["unknown", "unless-stopped", "no", "negative"],
)
def test_restart_policies_that_cannot_be(alike: Alike, policy: dict[str, object], words: str) -> None:
    assert _refused(alike, {"HostConfig": {"RestartPolicy": policy}}) == (400, words)


@pytest.mark.claim("rule-create-validation", "rule-create-no-command")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"HostConfig": {"CapDrop": ["NOPE"]}}, 'invalid CapDrop: unknown capability: "CAP_NOPE"'),
        ({"HostConfig": {"CgroupnsMode": "bogus"}}, "invalid cgroup namespace mode: bogus"),
        ({"HostConfig": {"Runtime": "bogus"}}, "Unknown runtime specified bogus"),
        (
            {"HostConfig": {"LogConfig": {"Type": "bogus"}}},
            'error looking up logging plugin bogus: plugin "bogus" not found',
        ),
        (
            {"HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"bogus": "1"}}}},
            "unknown log opt 'bogus' for json-file log driver",
        ),
        ({"HostConfig": {"ExtraHosts": ["bad"]}}, 'bad format for add-host: "bad"'),
        ({"HostConfig": {"VolumesFrom": ["no-such"]}}, "No such container: no-such"),
        ({"Hostname": "x", "HostConfig": {"UTSMode": "host"}}, "conflicting options: hostname and the UTS mode"),
        (
            {**_PORT, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "zz"}]}}},
            'invalid port specification: "zz"',
        ),
        (
            {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 100}},
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ({"Healthcheck": {"Test": ["CMD", "true"], "Retries": -1}}, "Retries in Healthcheck cannot be negative"),
        ({"Env": [""]}, "invalid environment variable: "),
        ({"Entrypoint": [""], "Cmd": []}, "No command specified"),
    ],
    ids=[
        "capability", "cgroupns", "runtime", "log-driver", "log-option", "extra-host", "volumes-from", "uts", "port",
        "health-interval", "health-retries", "environment", "command",
    ],
)  # fmt: skip
def test_settings_that_cannot_be(alike: Alike, body: dict[str, object], words: str) -> None:
    assert _refused(alike, body) == (400, words)


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("/tmp:/x:zz", "invalid mode: zz"),
        (
            "/tmp:x",
            "invalid volume specification: '/tmp:x': invalid mount config for type \"bind\": "
            "invalid mount path: 'x' mount path must be absolute",
        ),
        (
            "/tmp:/",
            "invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": "
            "invalid specification: destination can't be '/'",
        ),
        ("b@d:/x", _LOCAL_NAME.format("b@d")),
        ("./a:/x", _LOCAL_NAME.format("./a")),
    ],
    ids=["mode", "relative", "root", "name", "relative-source"],
)
def test_binds_that_cannot_be(alike: Alike, bind: str, words: str) -> None:
    """Old reference engines say 500 to those that cannot be read, newer ones 400."""
    assert _refused(alike, {"HostConfig": {"Binds": [bind]}}, old_statuses=[500]) == (400, words)


@pytest.mark.claim("rule-create-validation")
def test_two_binds_for_one_place(alike: Alike) -> None:
    body: dict[str, object] = {"HostConfig": {"Binds": ["/tmp:/x", "/var:/x"]}}
    assert _refused(alike, body) == (400, "Duplicate mount point: /x")


@pytest.mark.claim("rule-create-validation")
@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"Type": "bind", "Source": "/tmp"}, "field Target must not be empty"),
        ({"Type": "foo", "Source": "/tmp", "Target": "/x"}, "mount type unknown"),
        (
            {"Type": "bind", "Source": "tmp", "Target": "/x"},
            "invalid mount path: 'tmp' mount path must be absolute",
        ),
        ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
        ({"Type": "tmpfs", "Source": "/x", "Target": "/x"}, "field Source must not be specified"),
        (
            {"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": {"Propagation": "zz"}},
            "invalid propagation mode: zz",
        ),
        (
            {"Type": "bind", "Source": "/tmp", "Target": "/"},
            "invalid specification: destination can't be '/'",
        ),
    ],
    ids=["target", "type", "relative", "source", "tmpfs-source", "propagation", "root"],
)
def test_mounts_that_cannot_be(alike: Alike, mount: dict[str, Any], words: str) -> None:
    expected = f'invalid mount config for type "{mount["Type"]}": {words}'
    assert _refused(alike, {"HostConfig": {"Mounts": [mount]}}) == (400, expected)


def test_a_warning_for_ports_that_mean_nothing(engine: Engine, busybox: str, name: str) -> None:
    body = {
        "Image": busybox,
        **_PORT,
        "HostConfig": {"NetworkMode": "host", "PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
    }
    reply: Any = engine.request("POST", f"/containers/create?name={name}", body).json()
    assert reply["Warnings"] == ["Published ports are discarded when using host network mode"]


@pytest.mark.claim("rule-create-reply")
def test_the_reply_is_an_id_and_a_list(engine: Engine, busybox: str, name: str) -> None:
    reply = engine.request("POST", f"/containers/create?name={name}", {"Image": busybox})
    value: Any = reply.json()
    assert reply.status == 201 and sorted(value) == ["Id", "Warnings"]
    assert re.fullmatch("[0-9a-f]{64}", value["Id"]) and value["Warnings"] == []
    assert reply.body.endswith(b"}\n")


@pytest.mark.claim("rule-ids")
def test_a_name_is_made_up(engine: Engine, busybox: str) -> None:
    container = create(engine, busybox, "")
    try:
        assert re.fullmatch("/[a-z]+_[a-z]+[0-9]?", str(engine.inspect(container)["Name"]))
    finally:
        engine.request("DELETE", f"/containers/{container}")


def test_a_name_with_a_slash_in_front(engine: Engine, busybox: str, name: str) -> None:
    container = create(engine, busybox, f"/{name}")
    value = engine.inspect(name)
    assert (value["Id"], value["Name"]) == (container, f"/{name}")


@pytest.mark.claim("rule-create-name-taken")
def test_two_clients_want_one_name(engine: Engine, busybox: str, name: str) -> None:
    """Exactly one of many that ask at once gets it."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(_: int) -> int:
        return engine.request("POST", f"/containers/create?name={name}", {"Image": busybox}).status

    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(pool.map(ask, range(6)))
    assert statuses == [201] + [409] * 5


@pytest.fixture
def rich(shelf: Shelf, engine: Engine, name: str) -> str:
    """An image whose configuration says something about everything."""
    reference = shelf.add(
        f"create/rich-{name}:1",
        label=f"rich-{name}",
        config={
            "Cmd": ["image-cmd", "arg"],
            "Entrypoint": ["/bin/echo", "entry"],
            "Env": ["PATH=/bin", "A=image", "B=image"],
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/from-image": {}},
            "WorkingDir": "/tmp",
            "User": "www",
            "StopSignal": "SIGUSR1",
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 3_600_000_000_000},
        },
    )
    engine.docker("pull", "-q", reference, check=True)
    return reference


def _config(engine: Engine, name: str) -> dict[str, Any]:
    value: Any = engine.inspect(name)["Config"]
    assert isinstance(value, dict)
    return value


@pytest.mark.claim("rule-create-image-config")
class TestWhatTheImageSays:
    """One image, because a pull each would take most of the time."""

    def test_is_taken_over(self, engine: Engine, rich: str, name: str) -> None:
        create(engine, rich, name)
        config = _config(engine, name)
        assert config["Cmd"] == ["image-cmd", "arg"] and config["Entrypoint"] == ["/bin/echo", "entry"]
        assert config["Env"] == ["PATH=/bin", "A=image", "B=image"]
        assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/tmp", "www", "SIGUSR1")
        assert config["ExposedPorts"] == {"80/tcp": {}} and config["Volumes"] == {"/from-image": {}}
        assert config["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 3_600_000_000_000}

    def test_is_united_with_what_the_request_says(self, engine: Engine, rich: str, name: str) -> None:
        create(
            engine,
            rich,
            name,
            Env=["B=own", "C=own", "D"],
            ExposedPorts={"81/udp": {}},
            Volumes={"/own": {}},
            Labels={"own": "label"},
        )
        config = _config(engine, name)
        assert config["Env"] == ["B=own", "C=own", "D", "PATH=/bin", "A=image"]
        assert config["ExposedPorts"] == {"80/tcp": {}, "81/udp": {}}
        assert config["Volumes"] == {"/from-image": {}, "/own": {}}
        assert config["Labels"] == {"test": f"rich-{name}", "own": "label"}

    def test_gives_way(self, engine: Engine, rich: str, name: str) -> None:
        create(engine, rich, name, Cmd=["own"], User="0", WorkingDir="/", StopSignal="TERM")
        config = _config(engine, name)
        assert config["Entrypoint"] == ["/bin/echo", "entry"] and config["Cmd"] == ["own"]
        assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("0", "/", "TERM")

    def test_loses_its_command_to_an_entrypoint(self, engine: Engine, rich: str, name: str) -> None:
        create(engine, rich, name, Entrypoint=["/bin/echo", "mine"])
        config = _config(engine, name)
        assert (config["Entrypoint"], config["Cmd"]) == (["/bin/echo", "mine"], None)

    def test_entrypoint_and_command_are_one_line(self, engine: Engine, rich: str, name: str) -> None:
        code = finished(engine, rich, name, ["own"])
        assert (code, joined(output(engine, name), 1)) == (0, b"entry own\n")
        value = engine.inspect(name)
        assert (value["Path"], value["Args"]) == ("/bin/echo", ["entry", "own"])

    def test_is_asked_about_health_unless_told_not_to(self, engine: Engine, rich: str, name: str) -> None:
        create(engine, rich, name, Healthcheck={"Test": ["NONE"]})
        assert "Health" not in engine.state(name)


@pytest.mark.claim("rule-create-environment")
class TestEnvironment:
    def test_of_a_plain_container(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["env"], Env=["A=1", "GONE"])
        container = str(engine.inspect(name)["Id"])
        assert joined(output(engine, name), 1).decode().splitlines() == [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"HOSTNAME={container[:12]}",
            "A=1",
            "HOME=/root",
        ]

    def test_with_a_terminal(self, engine: Engine, busybox: str, name: str) -> None:
        finished(engine, busybox, name, ["env"], Tty=True)
        log = engine.request("GET", f"/containers/{name}/logs?stdout=1").body
        assert b"\r\nTERM=xterm\r\n" in log

    @pytest.mark.parametrize(("user", "home"), [("www", "/var/www"), ("33", "/var/www"), ("4711", "/")])
    def test_home_is_the_users(self, engine: Engine, busybox: str, name: str, user: str, home: str) -> None:
        finished(engine, busybox, name, ["sh", "-c", "echo $HOME"], User=user)
        assert joined(output(engine, name), 1).decode() == f"{home}\n"

    def test_what_is_given_wins(self, engine: Engine, busybox: str, name: str) -> None:
        given = ["HOME=/h", "HOSTNAME=hn", "PATH=/bin:/usr/bin"]
        finished(engine, busybox, name, ["sh", "-c", "echo $HOME $HOSTNAME $PATH"], Env=given)
        assert joined(output(engine, name), 1) == b"/h hn /bin:/usr/bin\n"


@pytest.mark.claim("rule-create-environment")
@pytest.mark.parametrize(("hostname", "domain"), [("", ""), ("box", ""), ("box", "example.test")])
def test_hostname(engine: Engine, busybox: str, name: str, hostname: str, domain: str) -> None:
    command = ["sh", "-c", "hostname; cat /proc/sys/kernel/domainname; tail -1 /etc/hosts"]
    finished(engine, busybox, name, command, Hostname=hostname, Domainname=domain)
    shown, domainname, entry = joined(output(engine, name), 1).decode().splitlines()
    expected = hostname or str(engine.inspect(name)["Id"])[:12]
    assert (shown, _config(engine, name)["Hostname"]) == (expected, expected)
    assert domainname == (domain or "(none)")
    assert entry.split()[1:] == ([f"{expected}.{domain}", expected] if domain else [expected])


@pytest.mark.claim("rule-namespace-modes")
def test_the_default_network_is_the_bridge(engine: Engine, busybox: str, name: str) -> None:
    """What the stock client sends: ``default`` in both places."""
    create(
        engine,
        busybox,
        name,
        version="/v1.41",
        HostConfig={"NetworkMode": "default"},
        NetworkingConfig={"EndpointsConfig": {"default": {"Aliases": None}}},
    )
    value: Any = engine.inspect(name)
    assert list(value["NetworkSettings"]["Networks"]) == ["bridge"]
    assert value["HostConfig"]["NetworkMode"] in {"default", "bridge"}


@pytest.mark.claim("rule-namespace-modes")
def test_an_unknown_network_is_found_out_at_start(engine: Engine, busybox: str, name: str) -> None:
    create(engine, busybox, name, Cmd=["true"], HostConfig={"NetworkMode": "no-such-net"})
    reply = engine.request("POST", f"/containers/{name}/start")
    assert (reply.status, message(reply)) == (404, "network no-such-net not found")
    assert (engine.state(name)["Status"], engine.state(name)["ExitCode"]) == ("created", 128)


def test_by_the_id_of_the_image(engine: Engine, busybox: str, name: str) -> None:
    image: Any = engine.request("GET", f"/images/{quote(busybox, safe='')}/json").json()
    create(engine, image["Id"], name)
    value: Any = engine.inspect(name)
    assert (value["Image"], value["Config"]["Image"]) == (image["Id"], image["Id"])


@pytest.mark.claim("rule-chunked-bodies")
def test_a_body_in_pieces(engine: Engine, busybox: str, name: str) -> None:
    """Go clients send chunks without a length."""
    import json
    import socket

    body = json.dumps({"Image": busybox, "Cmd": ["true"]}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(engine.socket)
        head = f"POST /containers/create?name={name} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for piece in (body[:7], body[7:20], body[20:]):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    assert reply.startswith(b"HTTP/1.1 201 ")
    assert _config(engine, name)["Cmd"] == ["true"]
