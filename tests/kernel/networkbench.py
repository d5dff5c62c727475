"""A Networks in namespaces of its own, with the real launcher, and the checks that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyker.libcontainer.launcher import Launcher
from pyker.networkdriver.base import BridgeOptions, Sandbox, SandboxRequest
from pyker.networkdriver.networks import Networks
from pyker.types.config import EndpointSettings, PortBinding
from pyker.types.ids import ContainerId
from tests.support.namespaces import ip_json, isolated, stop_all

_NUMBERS = itertools.count(1)


def request(
    mode: str = "bridge",
    *,
    ports: Mapping[str, tuple[PortBinding, ...]] | None = None,
    exposed: tuple[str, ...] = (),
    endpoints: Mapping[str, EndpointSettings] | None = None,
    name: str = "",
) -> SandboxRequest:
    """A request of a container that nobody had before."""
    number = next(_NUMBERS)
    return SandboxRequest(
        container_id=ContainerId(f"{number:064x}"),
        container_name=name or f"c{number}",
        mode=mode,
        ports=dict(ports or {}),
        exposed=exposed,
        endpoints=dict(endpoints or {}),
    )


def publish(host_port: str = "", host_ip: str = "") -> tuple[PortBinding, ...]:
    """One binding."""
    return (PortBinding(host_ip=host_ip, host_port=host_port),)


class Bench:
    """Makes Networks over one data root, as daemons that follow each other do."""

    def __init__(self, root: Path, launcher: Launcher) -> None:
        self.root = str(root)
        self.launcher = launcher

    @contextlib.contextmanager
    def running(
        self, options: BridgeOptions | None = None, live: Mapping[ContainerId, Sandbox] | None = None
    ) -> Iterator[Networks]:
        """A daemon's networks, from start to close."""
        networks = Networks(
            root=self.root,
            exec_root=self.root,
            namespaces=self.launcher,
            options=options or BridgeOptions(pool_size=1),
        )
        try:
            networks.start(live or {})
            yield networks
        finally:
            networks.close()

    def pins(self) -> list[str]:
        """The pinned namespaces."""
        return os.listdir(os.path.join(self.root, "netns"))


@contextlib.contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """A bench; afterwards no thread and no file descriptor may be left."""
    with tidy(), warm_launcher(root) as launcher:
        yield Bench(root, launcher)


@contextlib.contextmanager
def warm_launcher(root: Path) -> Iterator[Launcher]:
    """A launcher in namespaces of its own, for as many benches as follow each other with ``cleared``."""
    with isolated():
        launcher = Launcher.spawn(str(root))
        try:
            yield launcher
        finally:
            launcher.close()


@contextlib.contextmanager
def tidy() -> Iterator[None]:
    """Fails if a thread of the engine's or a file descriptor is left."""
    threads = set(threading.enumerate())
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name.startswith("pyker-")]
    assert len(os.listdir("/proc/self/fd")) <= descriptors


@contextlib.contextmanager
def cleared() -> Iterator[None]:
    """Whatever links and rules are here afterwards, the next one has a bare namespace."""
    try:
        yield
    finally:
        stop_all()
        # One of a pair takes the other with it: deletions may fail, but nothing may be there then.
        ip_batch(*(f"link del {name}" for name in sorted(link_names() - {"lo"})), force=True)
        assert link_names() == {"lo"}
        subprocess.run(["nft", "flush", "ruleset"], check=True)


def ip_batch(*commands: str, force: bool = False) -> None:
    """Several of ip's commands by one process; with ``force``, those that fail are passed over."""
    options = ["-force"] if force else []
    text = "\n".join(commands).encode()
    subprocess.run(["ip", *options, "-batch", "-"], input=text, capture_output=force, check=not force)


def link_names() -> set[str]:
    """The links of the namespace that the test is in."""
    return {link["ifname"] for link in ip_json("link")}
