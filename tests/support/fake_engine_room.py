"""The daemon's container handlers on fakes: no kernel, no network, no images, in a folder of the test's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from pyker.container.store import ContainerStore
from pyker.container.volumes import VolumeStore
from pyker.daemon.attach import AttachHandlers
from pyker.daemon.containers import ContainerHandlers
from pyker.daemon.create import CreateDefaults, CreateHandlers
from pyker.daemon.events import EventBus, EventHandlers
from pyker.daemon.execs import ExecHandlers
from pyker.daemon.exits import Exits
from pyker.daemon.health import HealthChecks, HealthProber
from pyker.daemon.lifecycle import LifecycleHandlers
from pyker.daemon.logs import LogHandlers
from pyker.daemon.mountpoints import MountPlanner
from pyker.daemon.options import Options
from pyker.daemon.processes import Processes
from pyker.daemon.removal import Remover
from pyker.daemon.restore import Restorer
from pyker.daemon.start import StartHandlers
from pyker.daemon.steps import StepsFile
from pyker.daemon.waiters import Waiters
from pyker.engine.engine import Engine
from pyker.engine.job import Actor, CancelToken
from pyker.errors import Cancelled, NotFound
from pyker.graphdriver.base import RootfsSpec
from pyker.jobs import containers as jobs
from pyker.jobs import system as system_jobs
from pyker.libcontainer.spec import ContainerSpec, ProcessSpec
from pyker.networkdriver.base import Sandbox
from pyker.types.config import ContainerConfig, EndpointSettings, HostConfig, PortBinding
from pyker.types.mount import Mount
from tests.support.fake_execdriver import FakeExecDriver

USER = Actor(kind="unix", uid=0, pid=1)


class FakeLayers:
    """Remembers who has a writable layer."""

    def __init__(self) -> None:
        self.writable: set[str] = set()

    def create_rw(self, container_id: str, top: object, storage_opt: object) -> None:
        self.writable.add(container_id)

    def remove_rw(self, container_id: str) -> None:
        self.writable.discard(container_id)

    def rootfs(self, container_id: str, *, readonly: bool = False) -> RootfsSpec:
        if container_id not in self.writable:
            raise NotFound(f"the container {container_id} has no layer")
        return RootfsSpec(mount=Mount(target="/", fstype="bind", source="/"), upperdir="/", data={})


class FakeGraph:
    """One image, ``bb``, with a configuration of the test's."""

    def __init__(self) -> None:
        self.layers = FakeLayers()
        self.driver = SimpleNamespace(name="fake")
        self.config: dict[str, Any] = {"Env": ["PATH=/bin"], "Cmd": ["forever"]}
        self.images = SimpleNamespace(get=self._image, ids=lambda: ["sha256:bb"])
        self.held: dict[str, str] = {}

    def lookup(self, name: str) -> str:
        if name != "bb":
            raise NotFound(f"No such image: {name}:latest")
        return "sha256:bb"

    def _image(self, image_id: str) -> Any:
        return SimpleNamespace(id=image_id, config={"config": self.config}, chain_ids=("sha256:c",), parent="")

    def hold(self, container_id: str, image_id: str) -> None:
        self.held[container_id] = image_id

    def release(self, container_id: str) -> None:
        self.held.pop(container_id, None)


class FakeNetwork:
    """Gives each container a sandbox; ``refusal`` is raised instead, once set."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Sandbox] = {}
        self.refusal: Exception | None = None

    def allocate(self, job: jobs.AllocateInterface, ctx: object) -> dict[str, EndpointSettings]:
        if self.refusal is not None:
            raise self.refusal
        endpoints = {job.mode: EndpointSettings(ip_address="172.17.0.2", endpoint_id="e" * 64)}
        ports = {"80/tcp": (PortBinding(host_ip="0.0.0.0", host_port="8080"),)}
        self.sandboxes[job.container] = Sandbox(id="s" * 64, netns_path="/ns", endpoints=endpoints, ports=dict(ports))
        return endpoints

    def release(self, job: jobs.ReleaseInterface, ctx: object) -> None:
        self.sandboxes.pop(job.container, None)

    def sandbox(self, container_id: str) -> Sandbox:
        found = self.sandboxes.get(container_id)
        if found is None:
            raise NotFound("no sandbox")
        return found


class FakeSpecs:
    """Just enough of a spec for the fake driver."""

    def container_spec(self, container: Any, rootfs: Any, sandbox: Any, state_dir: str) -> ContainerSpec:
        process = ProcessSpec(args=(container.path, *container.args), tty=container.config.tty)
        return ContainerSpec(
            id=container.id, state_dir=state_dir, rootfs=rootfs.mount, mounts=(), process=process, namespaces={}
        )

    def exec_spec(self, container: Any, job: jobs.CreateExec) -> ProcessSpec:
        return ProcessSpec(args=job.command, tty=job.tty)


class Client:
    """A job's caller: what it reads and writes. ``begun`` is set once the answer's head would have been sent."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.written: list[bytes] = []
        self.mine, self.theirs = socket.socketpair()
        self.mine.settimeout(10)

    def stdin(self) -> Any:
        raise AssertionError("nobody reads a body here")

    def stdout(self, content_type: str = "") -> Callable[[bytes], None]:
        self.begun.set()
        return self.written.append

    def hijack(self, *, multiplexed: bool) -> Client:
        self.begun.set()
        return self

    def recv(self, size: int) -> bytes:
        return self.theirs.recv(size)

    def send(self, data: bytes | memoryview) -> None:
        try:
            self.theirs.sendall(data)
        except OSError as error:
            raise Cancelled("gone") from error

    def fileno(self) -> int:
        return self.theirs.fileno()

    def close(self) -> None:
        self.theirs.close()

    def read_all(self) -> bytes:
        """Everything until the other side closes."""
        data = b""
        while piece := self.mine.recv(4096):
            data += piece
        return data


class EngineRoom:
    """All container handlers, composed on fakes, over the folders of ``root``."""

    def __init__(self, root: str, driver: FakeExecDriver | None = None) -> None:
        self.options = Options(data_root=root, exec_root=f"{root}/exec")
        self.engine = Engine()
        self.store = ContainerStore(root, self.options.exec_root)
        self.warnings = self.store.load()
        self.volumes = VolumeStore(root)
        self.graph: Any = FakeGraph()
        self.graph.layers.writable = {container.id for container in self.store.all()}
        self.network: Any = FakeNetwork()
        self.driver = driver or FakeExecDriver()
        self.processes, self.waiters, self.bus = Processes(), Waiters(), EventBus()
        self.copied: list[tuple[str, list[str]]] = []
        self.remover = Remover(
            self.store,
            self.volumes,
            cast("Any", self.graph),
            self.processes,
            self.waiters,
            self.bus,
            self.options.exec_root,
        )
        self.health = HealthChecks(self.engine, self.store, self.bus)
        self.exits = Exits(self.engine, self.store, self.processes, self.waiters, self.bus, self.remover, self.health)
        self._register()

    def _register(self) -> None:
        specs: Any = FakeSpecs()
        create = CreateHandlers(
            self.store,
            self.graph,
            MountPlanner(self.volumes, self.store.get),
            self.bus,
            lambda config, host: (),
            lambda container_id, points: self.copied.append((container_id, [point.destination for point in points])),
            CreateDefaults(),
        )
        start = StartHandlers(
            self.store,
            self.graph.layers,
            self.network,
            self.driver,
            specs,
            self.processes,
            self.bus,
            self.exits,
            self.health,
            self.remover,
            StepsFile(lambda subject: ()),
            self.options,
        )
        lifecycle = LifecycleHandlers(self.store, self.processes, self.waiters, self.bus, self.exits)
        containers = ContainerHandlers(
            self.store,
            self.waiters,
            self.bus,
            self.exits,
            self.remover,
            lifecycle,
            lambda _: 0,
            lambda container_id, old, new: None,
        )
        logs = LogHandlers(self.store, self.processes)
        attach = AttachHandlers(self.store, self.processes, self.bus, logs)
        execs = ExecHandlers(self.store, self.processes, self.bus, self.driver, specs)
        register: Any = self.engine.register
        for job, handler in (
            (jobs.CreateContainer, create.create),
            (jobs.StartContainer, start.start),
            (jobs.MountRootfs, start.mount_rootfs),
            (jobs.RunProcess, start.run_process),
            (jobs.AllocateInterface, self.network.allocate),
            (jobs.ReleaseInterface, self.network.release),
            (jobs.StopContainer, lifecycle.stop),
            (jobs.RestartContainer, lifecycle.restart),
            (jobs.KillContainer, lifecycle.kill),
            (jobs.PauseContainer, lifecycle.pause),
            (jobs.UnpauseContainer, lifecycle.unpause),
            (jobs.RemoveContainer, containers.remove),
            (jobs.RenameContainer, containers.rename),
            (jobs.WaitContainer, containers.wait),
            (jobs.ContainerLogs, logs.logs),
            (jobs.AttachContainer, attach.attach),
            (jobs.ResizeContainer, attach.resize),
            (jobs.CreateExec, execs.create),
            (jobs.StartExec, execs.start),
            (jobs.InspectExec, execs.inspect),
            (jobs.HealthProbe, HealthProber(execs).probe),
            (system_jobs.StreamEvents, EventHandlers(self.bus).stream),
        ):
            register(job, handler)

    def restorer(self) -> Restorer:
        """For a room that takes over another's folders and driver."""
        return Restorer(
            self.engine,
            self.store,
            self.driver,
            self.processes,
            self.exits,
            self.health,
            self.remover,
            self.bus,
            self.options.exec_root,
        )

    def create(self, *command: str, name: str = "", host: HostConfig | None = None, **config: Any) -> str:
        """A new container's ID."""
        job = jobs.CreateContainer(
            config=ContainerConfig(image="bb", cmd=command or None, **config),
            host_config=host or HostConfig(),
            container_name=name,
        )
        created: jobs.ContainerCreated = self.run(job)
        return created.id

    def run(self, job: Any, client: Client | None = None, cancel: CancelToken | None = None) -> Any:
        """Run a job as a user would."""
        return self.engine.run(job, actor=USER, stdio=client, cancel=cancel)

    def spawn(self, job: Any, client: Client | None = None, cancel: CancelToken | None = None) -> Any:
        """The same in a thread; returns its future."""
        return self.engine.spawn(job, actor=USER, stdio=client, cancel=cancel)

    def start(self, container: str) -> None:
        self.run(jobs.StartContainer(container=container))

    def wait_exit(self, container: str) -> int:
        """Wait until a container has ended; its exit code."""
        result: jobs.WaitResult = self.run(jobs.WaitContainer(container=container), Client())
        return result.exit_code

    def actions(self) -> list[str]:
        """What happened so far, as ``kind action``."""
        past, _, leave = self.bus.subscribe()
        leave()
        return [f"{event.kind} {event.action}" for event in past]
