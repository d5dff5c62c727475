"""Container records for tests, with only what a test cares about filled in."""

from __future__ import annotations

from msgspec import convert

from pyker.container.record import Container, MountPoint, State
from pyker.graphdriver.base import RootfsSpec
from pyker.types.config import ContainerConfig, HostConfig
from pyker.types.ids import ContainerId, ImageId
from pyker.types.mount import Mount

ROOTFS = RootfsSpec(mount=Mount(target="/", fstype="overlay", source="overlay"), upperdir="/upper", data={})


def container(
    config: dict[str, object] | None = None,
    host: dict[str, object] | None = None,
    *,
    name: str = "box",
    digit: str = "a",
    pid: int = 0,
    points: tuple[MountPoint, ...] = (),
    command: tuple[str, ...] = ("true",),
) -> Container:
    """``config`` and ``host`` have the API's field names. With ``pid`` the container runs."""
    identifier = ContainerId(digit * 64)
    return Container(
        id=identifier,
        name=name,
        created="2026-01-01T00:00:00Z",
        path=command[0],
        args=command[1:],
        config=convert({"Hostname": identifier[:12], **(config or {})}, ContainerConfig),
        host_config=convert({"IpcMode": "private", "CgroupnsMode": "host", **(host or {})}, HostConfig),
        image=ImageId("sha256:" + "0" * 64),
        driver="overlay2",
        state=State(status="running", running=True, pid=pid) if pid else State(),
        log_path="/logs/x-json.log",
        mount_points=points,
        hostname_path="/c/hostname",
        hosts_path="/c/hosts",
        resolv_conf_path="/c/resolv.conf",
    )
