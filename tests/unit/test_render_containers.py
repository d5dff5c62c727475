"""Containers on the wire: the keys, the nulls and the words of the reference engine."""

from __future__ import annotations

from typing import Any

import pytest

from pyker.api import gotime
from pyker.container.record import Container, Health, MountPoint, NetworkSettings, State
from pyker.jobs.containers import ContainerRow, ContainerView
from pyker.server.render.containers import container_inspect, container_row, ports, status_text
from pyker.types.config import ContainerConfig, EndpointSettings, HostConfig, PortBinding

ID = "ab" * 32
NOW = gotime.parse_time("2026-11-23T20:00:00Z")
START = "2026-11-23T19:58:00Z"


def _words(text: str) -> set[str]:
    return set(text.split())


# What dockerd 20.10 answers to GET /v1.41/containers/{id}/json for a plain container.
INSPECT_KEYS = _words(
    "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver"
    " Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings"
)
STATE_KEYS = _words("Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt")
CONFIG_KEYS = _words(
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image Volumes"
    " WorkingDir Entrypoint OnBuild Labels"
)
NETWORK_SETTINGS_KEYS = _words(
    "Bridge SandboxID HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen Ports SandboxKey SecondaryIPAddresses"
    " SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen"
    " IPv6Gateway MacAddress Networks"
)
ENDPOINT_KEYS = _words(
    "IPAMConfig Links Aliases NetworkID EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address"
    " GlobalIPv6PrefixLen MacAddress DriverOpts"
)
HOST_CONFIG_KEYS = _words(
    "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver VolumesFrom"
    " CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links OomScoreAdj"
    " PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime ConsoleSize"
    " Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps"
    " BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod"
    " CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests KernelMemory KernelMemoryTCP"
    " MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent"
    " IOMaximumIOps IOMaximumBandwidth MaskedPaths ReadonlyPaths"
)


def _container(**changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": ID,
        "name": "web",
        "created": START,
        "path": "sh",
        "args": (),
        "config": ContainerConfig(image="bb:1", labels={}),
        "host_config": HostConfig(network_mode="default"),
        "image": "sha256:" + "cd" * 32,
        "driver": "overlay2",
        "network_settings": NetworkSettings(networks={"bridge": EndpointSettings(ip_address="172.17.0.2")}),
    }
    return Container(**values | changes)


def _inspect(version: tuple[int, int], **changes: Any) -> dict[str, Any]:
    return container_inspect(ContainerView(container=_container(**changes)), version)


def test_inspect_has_the_keys_of_the_reference() -> None:
    shown = _inspect((1, 41))
    assert set(shown) == INSPECT_KEYS
    assert set(shown["State"]) == STATE_KEYS
    assert set(shown["Config"]) == CONFIG_KEYS
    assert set(shown["HostConfig"]) == HOST_CONFIG_KEYS
    assert set(shown["NetworkSettings"]) == NETWORK_SETTINGS_KEYS
    assert set(shown["NetworkSettings"]["Networks"]["bridge"]) == ENDPOINT_KEYS


def test_newer_versions_gain_and_lose_keys() -> None:
    shown = _inspect((1, 45))
    assert set(shown["HostConfig"]) == HOST_CONFIG_KEYS - {"KernelMemory", "KernelMemoryTCP"}
    assert set(shown["NetworkSettings"]["Networks"]["bridge"]) == ENDPOINT_KEYS | {"DNSNames"}


def test_nulls_and_empties() -> None:
    shown = _inspect((1, 41), config=ContainerConfig(image="bb:1", volumes={}, labels={}))
    assert (shown["ExecIDs"], shown["Mounts"], shown["Args"]) == (None, [], [])
    assert (shown["Config"]["Volumes"], shown["Config"]["Labels"], shown["Config"]["Cmd"]) == (None, {}, None)
    assert (shown["HostConfig"]["Binds"], shown["HostConfig"]["PidsLimit"]) == (None, None)
    assert shown["NetworkSettings"]["Ports"] == {}
    assert shown["NetworkSettings"]["SecondaryIPAddresses"] is None
    assert shown["LogPath"] == ""


def test_sizes_only_when_asked_for_and_then_even_zero() -> None:
    view = ContainerView(container=_container(), size_rw=0, size_root_fs=10)
    shown = container_inspect(view, (1, 41))
    assert (shown["SizeRw"], shown["SizeRootFs"]) == (0, 10)
    row = container_row(
        ContainerRow(container=_container(), image_name="bb:1", size_rw=0, size_root_fs=10), (1, 41), NOW
    )
    assert "SizeRw" not in row
    assert row["SizeRootFs"] == 10


def test_top_level_addresses_are_those_of_the_default_bridge_only() -> None:
    assert _inspect((1, 41))["NetworkSettings"]["IPAddress"] == "172.17.0.2"
    other = NetworkSettings(networks={"n1": EndpointSettings(ip_address="172.18.0.2", aliases=("zz",))})
    shown = _inspect((1, 41), network_settings=other)["NetworkSettings"]
    assert (shown["IPAddress"], shown["Networks"]["n1"]["IPAddress"]) == ("", "172.18.0.2")


def test_aliases_hold_the_short_id_before_1_45_and_only_on_own_networks() -> None:
    networks = {"n1": EndpointSettings(aliases=("zz",)), "bridge": EndpointSettings()}
    settings = NetworkSettings(networks=networks)
    old = _inspect((1, 44), network_settings=settings)["NetworkSettings"]["Networks"]
    assert (old["n1"]["Aliases"], old["bridge"]["Aliases"]) == (["zz", ID[:12]], None)
    new = _inspect((1, 45), network_settings=settings)["NetworkSettings"]["Networks"]
    assert new["n1"]["Aliases"] == ["zz"]


def test_mounts_leave_out_what_they_have_not() -> None:
    points = (
        MountPoint(type="bind", source="/tmp", destination="/host", mode="ro", rw=False, propagation="rslave"),
        MountPoint(
            type="volume", name="v", source="/d/v/_data", destination="/v", driver="local", mode="z", anonymous=True
        ),
    )
    bind, volume = _inspect((1, 41), mount_points=points)["Mounts"]
    assert bind == {
        "Type": "bind",
        "Source": "/tmp",
        "Destination": "/host",
        "Mode": "ro",
        "RW": False,
        "Propagation": "rslave",
    }
    assert volume["Name"] == "v"
    assert "Anonymous" not in volume


def test_health_is_there_only_when_checked() -> None:
    shown = _inspect((1, 41), state=State(status="running", running=True, health=Health(status="starting")))
    assert shown["State"]["Health"] == {"Status": "starting", "FailingStreak": 0, "Log": ()}


def test_ports_are_one_element_a_binding() -> None:
    settings = NetworkSettings(
        ports={
            "9000/udp": (PortBinding(host_ip="0.0.0.0", host_port="32768"),),
            "99/tcp": None,
            "80/tcp": (PortBinding(host_ip="0.0.0.0", host_port="80"), PortBinding(host_ip="::", host_port="80")),
        }
    )
    assert ports(settings) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 80, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 80, "Type": "tcp"},
        {"PrivatePort": 99, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 9000, "PublicPort": 32768, "Type": "udp"},
    ]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(), "Created"),
        (State(status="running", running=True, started_at=START), "Up 2 minutes"),
        (State(status="paused", running=True, paused=True, started_at=START), "Up 2 minutes (Paused)"),
        (
            State(status="running", running=True, started_at=START, health=Health(status="healthy")),
            "Up 2 minutes (healthy)",
        ),
        (
            State(status="running", running=True, started_at=START, health=Health(status="starting")),
            "Up 2 minutes (health: starting)",
        ),
        (
            State(status="restarting", restarting=True, running=True, exit_code=1, started_at=START, finished_at=START),
            "Restarting (1) 2 minutes ago",
        ),
        (State(status="exited", exit_code=3, started_at=START, finished_at=START), "Exited (3) 2 minutes ago"),
        (State(status="removing", removal_in_progress=True, started_at=START), "Removal In Progress"),
        (State(status="dead", dead=True, started_at=START), "Dead"),
    ],
)
def test_status_words(state: State, text: str) -> None:
    assert status_text(state, NOW) == text
