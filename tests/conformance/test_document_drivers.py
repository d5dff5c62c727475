"""The document's drivers: which graphdriver is taken, the types of networks, the bridge, and the exec driver's work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engines import Engine
from tests.support.registry import Registry
from tests.support.sandbox import wait_until

Start = Callable[..., Engine]


def info(engine: Engine) -> dict[str, Any]:
    value = engine.request("GET", "/info").json()
    assert isinstance(value, dict)
    return value


@pytest.mark.claim("graphdriver-environment", "graphdriver-one-for-all", "info-storage-driver", "driver-customises")
@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("overlay2", marks=[pytest.mark.requires("overlay"), pytest.mark.claim("graphdriver-overlay")]),
        pytest.param("vfs", marks=pytest.mark.claim("graphdriver-vfs")),
    ],
)
def test_the_environment_chooses_the_graphdriver(another: Start, driver: str, tmp_path: Path) -> None:
    own = another(env={"DOCKER_DRIVER": driver})
    assert info(own)["Driver"] == driver
    assert f" Storage Driver: {driver}\n" in own.docker("info", check=True).out
    with Registry(tmp_path / "registry", own.sandbox) as registry:
        reference = registry.push(images.make(tmp_path / "image"), "test/busybox:1")
        done = own.docker("run", "--rm", reference, "sh", "-c", "echo x > /new && cat /new", check=True)
        assert done.out == "x\n"
        assert (own.data_root / "image" / driver / "layerdb" / "sha256").is_dir()
        assert (own.data_root / driver).is_dir()
        own.docker("rmi", reference, check=True)


@pytest.mark.claim("graphdriver-environment")
@pytest.mark.parametrize(
    ("driver", "words"),
    [
        pytest.param("aufs", "aufs", marks=pytest.mark.claim("graphdriver-aufs")),
        pytest.param("btrfs", "btrfs|prerequisites for driver", marks=pytest.mark.claim("graphdriver-btrfs")),
        pytest.param("nosuchdriver", "nosuchdriver", id="unknown"),
    ],
)
def test_a_driver_that_cannot_be_here_is_refused(another: Start, driver: str, words: str) -> None:
    """The data root is on no btrfs here, and today's kernels have no aufs."""
    if driver == "aufs" and "aufs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has aufs")
    with pytest.raises(RuntimeError, match=f"the daemon ended with 1(?s:.*)({words})"):
        another(env={"DOCKER_DRIVER": driver})


@pytest.mark.claim("graphdriver-by-system")
def test_without_a_choice_the_system_decides(another: Start) -> None:
    own = another(env={"DOCKER_DRIVER": "", "PYKER_DRIVER": ""})
    assert info(own)["Driver"] == ("overlay2" if "overlay" in Path("/proc/filesystems").read_text() else "vfs")


@pytest.mark.claim("driver-three-kinds", "overview-networkdriver-makes-network")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("bridge", marks=pytest.mark.claim("network-type-bridge")),
        pytest.param("host", marks=pytest.mark.claim("network-type-host")),
        pytest.param("ipvlan", marks=pytest.mark.claim("network-type-ipvlan")),
        pytest.param("macvlan", marks=pytest.mark.claim("network-type-macvlan")),
        pytest.param("null", marks=pytest.mark.claim("network-type-null")),
        pytest.param("overlay", marks=pytest.mark.claim("network-type-overlay")),
    ],
)
def test_the_types_of_networks(engine: Engine, kind: str) -> None:
    assert kind in info(engine)["Plugins"]["Network"]


@pytest.mark.claim("network-bridge-at-start", "netlink-configures")
def test_the_daemon_makes_a_bridge(another: Start) -> None:
    own = another()
    value: Any = own.request("GET", "/networks/bridge").json()
    link = value["Options"]["com.docker.network.bridge.name"]
    shown = json.loads(own.sandbox.run(["ip", "-j", "-d", "addr", "show", link]).stdout)[0]
    assert shown["linkinfo"]["info_kind"] == "bridge"
    subnet = value["IPAM"]["Config"][0]["Subnet"]
    first = next(each for each in shown["addr_info"] if each["family"] == "inet")
    assert f"{first['local'].rpartition('.')[0]}.0/{first['prefixlen']}" == subnet


@pytest.mark.claim("network-own-interface", "network-address", "network-interface-address-ports", "run-second-network",
                   "container-network-of-its-own", "network-first-in-start")  # fmt: skip
def test_each_container_has_an_interface_and_an_address(engine: Engine, busybox: str, names: Callable[[], str]) -> None:
    seen = []
    for _ in range(2):
        name = names()
        engine.docker("run", "-d", "--name", name, busybox, "sleep", "300", check=True)
        settings: Any = engine.inspect(name)["NetworkSettings"]
        text = engine.docker("exec", name, "ip", "-o", "-4", "addr", "show", check=True).out.splitlines()
        assert [line.split()[1] for line in text] == ["lo", "eth0"]
        assert text[1].split()[3] == f"{settings['IPAddress']}/{settings['IPPrefixLen']}"
        pid = engine.state(name)["Pid"]
        seen.append((settings["IPAddress"], settings["MacAddress"], os.readlink(f"/proc/{pid}/ns/net")))
    assert all(first != second for first, second in zip(*seen, strict=True)), seen


@pytest.mark.claim("network-firewall", "libcontainer-firewall", "rule-network-firewall")
@pytest.mark.requires("nft")
def test_a_published_port_is_in_the_firewall_as_long_as_it_is_published(
    engine: Engine, busybox: str, name: str
) -> None:
    def rules() -> str:
        return engine.sandbox.run(["nft", "-s", "list", "ruleset"]).stdout.decode()

    assert "18099" not in rules()
    engine.docker("run", "-d", "--name", name, "-p", "18099:80", busybox, "sleep", "300", check=True)
    address: Any = engine.inspect(name)["NetworkSettings"]
    with_port = [line for line in rules().splitlines() if "18099" in line]
    assert any(address["IPAddress"] in line for line in with_port), with_port
    engine.docker("rm", "-f", name, check=True)
    assert "18099" not in rules()


@pytest.mark.claim("execdriver-runs", "container-command", "overview-execdriver-limits-and-runs")
def test_the_command_is_the_process(engine: Engine, busybox: str, name: str) -> None:
    engine.docker("run", "-d", "--name", name, busybox, "sleep", "298", check=True)
    pid = engine.state(name)["Pid"]
    command = Path(f"/proc/{pid}/cmdline")
    wait_until(lambda: command.read_bytes() == b"sleep\x00298\x00", what="the command")
    assert os.readlink(f"/proc/{pid}/root") == "/" or os.path.samefile(
        f"/proc/{pid}/root/bin/sleep", f"/proc/{pid}/exe"
    )


@pytest.mark.claim("execdriver-accounts", "libcontainer-cgroups")
def test_what_a_container_uses_is_accounted(engine: Engine, busybox: str, name: str) -> None:
    """Its cgroup counts the memory that it touches, and its processes."""
    script = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 300"
    engine.docker("run", "-d", "--name", name, busybox, "sh", "-c", script, check=True)
    pid = engine.state(name)["Pid"]
    assert isinstance(pid, int)

    def used() -> int:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if "memory" in names.split(","):
                return int(Path(f"/sys/fs/cgroup/memory{path}/memory.usage_in_bytes").read_text())
            if names == "" and Path(f"/sys/fs/cgroup{path}/memory.current").exists():
                return int(Path(f"/sys/fs/cgroup{path}/memory.current").read_text())
        raise AssertionError(f"no memory cgroup of {pid}")

    wait_until(lambda: used() > 20_000_000, timeout=30, what="twenty megabytes in the account")
