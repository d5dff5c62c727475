"""Puts the parts together. The only module that knows every class.

Each handler gets the two or three parts that it uses; nothing here holds them all afterwards but the engine's table.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyker.container.store import ContainerStore
from pyker.container.volumes import VolumeStore
from pyker.daemon import host, userns
from pyker.daemon.attach import AttachHandlers
from pyker.daemon.cgroupparent import cgroup_parent
from pyker.daemon.commit import CommitHandlers
from pyker.daemon.connections import ConnectionHandlers
from pyker.daemon.containers import ContainerHandlers
from pyker.daemon.copyup import CopyUpWorker
from pyker.daemon.create import CreateDefaults, CreateHandlers
from pyker.daemon.diskusage import DiskUsageHandlers
from pyker.daemon.distribution import DistributionHandlers
from pyker.daemon.events import EventBus, EventHandlers
from pyker.daemon.execs import ExecHandlers
from pyker.daemon.exits import Exits
from pyker.daemon.files import FileHandlers
from pyker.daemon.graphstore import GraphStore
from pyker.daemon.health import HealthChecks, HealthProber
from pyker.daemon.imagearchives import ArchiveHandlers
from pyker.daemon.images import ImageHandlers
from pyker.daemon.lifecycle import LifecycleHandlers
from pyker.daemon.listing import ListingHandlers
from pyker.daemon.logs import LogHandlers
from pyker.daemon.mountpoints import MountPlanner
from pyker.daemon.networks import NetworkHandlers
from pyker.daemon.options import Options, parse_ulimit
from pyker.daemon.processes import Processes
from pyker.daemon.removal import Remover
from pyker.daemon.restore import Restorer
from pyker.daemon.spec import SpecOptions, Specs
from pyker.daemon.spec_log import parse_size
from pyker.daemon.start import StartHandlers
from pyker.daemon.stats import StatsHandlers
from pyker.daemon.steps import StepsFile
from pyker.daemon.system import Platform, SystemHandlers, layout_version
from pyker.daemon.transfer import TransferHandlers
from pyker.daemon.update import UpdateHandlers
from pyker.daemon.view import Views
from pyker.daemon.volumes import VolumeHandlers
from pyker.daemon.waiters import Waiters
from pyker.engine.engine import Engine
from pyker.engine.job import JobContext, JobFuture
from pyker.engine.journal import Journal
from pyker.execdriver import select as execdrivers
from pyker.execdriver.base import ExecDriver
from pyker.graph.graph import Graph
from pyker.graphdriver import select as graphdrivers
from pyker.jobs import containers as container_jobs
from pyker.jobs import files as file_jobs
from pyker.jobs import images as image_jobs
from pyker.jobs import networks as network_jobs
from pyker.jobs import system as system_jobs
from pyker.jobs import volumes as volume_jobs
from pyker.libcontainer.launcher import Launcher
from pyker.networkdriver.base import BridgeOptions
from pyker.networkdriver.networks import Networks
from pyker.registry.client import RegistryClient
from pyker.registry.config import RegistryConfig
from pyker.server.serveapi import ApiServer
from pyker.types.config import Ulimit

if TYPE_CHECKING:
    from pyker.registry.embedded import EmbeddedRegistry

log = logging.getLogger("pyker.daemon")


@dataclass(frozen=True, slots=True)
class _Containers:
    """What the parts that deal with containers share."""

    store: ContainerStore
    volumes: VolumeStore
    processes: Processes
    waiters: Waiters
    bus: EventBus
    remover: Remover
    exits: Exits
    health: HealthChecks


class Daemon:
    """The engine with everything in place. ``serve`` begins; ``close`` ends it and lets containers run on."""

    def __init__(self, engine: Engine, restorer: Restorer, server: ApiServer, storage: str, grace_s: float) -> None:
        self._engine = engine
        self._restorer = restorer
        self._server = server
        self.storage = storage
        self._grace_s = grace_s

    def serve(self, options: Options) -> None:
        """Adopt what runs, bring the network up, listen. Returns when clients can connect; raises what went wrong."""
        self._restorer.adopt()
        self._engine.run(network_jobs.InitNetworkDriver())
        self._restorer.settle()
        job = system_jobs.ServeApi(
            hosts=options.host,
            tls=options.tls,
            tls_verify=options.tlsverify,
            tls_ca_cert=options.tlscacert,
            tls_cert=options.tlscert,
            tls_key=options.tlskey,
            socket_group=options.group,
        )
        serving: JobFuture[None] = self._engine.spawn(job)
        while not self._server.ready.wait(0.02):
            if not self._engine.running():
                serving.result()
                return
        self._restorer.start_all()

    def close(self) -> None:
        """Stop serving, let jobs end, let go of the drivers."""
        self._engine.close(grace_s=self._grace_s)


def compose(options: Options, launcher: Launcher) -> Daemon:
    """Make every part and register every handler. Raises PykerError for what this machine cannot do."""
    journal_folder = os.path.join(options.data_root, "engine")
    os.makedirs(journal_folder, mode=0o700, exist_ok=True)
    engine = Engine(Journal(os.path.join(journal_folder, "jobs.db")))
    graph = Graph(options.data_root, graphdrivers.select(options.data_root, options.storage_driver))
    engine.on_shutdown(graph.close)
    remap = userns.read(options.userns_remap)
    userns.require(remap, options.data_root, overlay=graph.driver.whiteout_style() == "overlay")
    driver = execdrivers.select(options.exec_driver, launcher, options.exec_root)
    engine.on_shutdown(driver.close)
    networks = Networks(
        root=options.data_root,
        exec_root=options.exec_root,
        namespaces=launcher,
        options=_bridge_options(options),
        dns=options.dns,
    )
    engine.on_shutdown(networks.close)
    parts = _containers(engine, graph, options)
    engine.on_shutdown(parts.exits.close)
    engine.on_shutdown(parts.health.close)
    specs = Specs(_spec_options(options, remap), parts.store.get)
    _register_containers(engine, parts, graph, driver, specs, networks, options)
    _register_images(engine, parts, graph, options)
    _register_system(engine, parts, graph, driver, networks, options)
    server = ApiServer(engine)
    engine.register(system_jobs.ServeApi, server.serve)
    restorer = Restorer(
        engine,
        parts.store,
        driver,
        parts.processes,
        parts.exits,
        parts.health,
        parts.remover,
        parts.bus,
        options.exec_root,
    )
    specs.warm()
    return Daemon(engine, restorer, server, graph.driver.name, float(options.shutdown_timeout))


def _containers(engine: Engine, graph: Graph, options: Options) -> _Containers:
    store = ContainerStore(options.data_root, options.exec_root)
    engine.on_shutdown(store.close)
    for warning in store.load():
        log.warning("%s", warning)
    for container in store.all():
        graph.hold(container.id, container.image)
    for container_id in graph.layers.containers():
        if store.find(container_id) is None and not os.path.exists(store.folder(container_id)):
            log.info("removing the layer of container %s, of which no record is left", container_id[:12])
            graph.layers.remove_rw(container_id)
    volumes = VolumeStore(options.data_root)
    processes, waiters, bus = Processes(), Waiters(), EventBus()
    remover = Remover(store, volumes, graph, processes, waiters, bus, options.exec_root)
    health = HealthChecks(engine, store, bus)
    exits = Exits(engine, store, processes, waiters, bus, remover, health)
    return _Containers(store, volumes, processes, waiters, bus, remover, exits, health)


def _register_containers(
    engine: Engine,
    parts: _Containers,
    graph: Graph,
    driver: ExecDriver,
    specs: Specs,
    networks: Networks,
    options: Options,
) -> None:
    store, processes, bus, exits = parts.store, parts.processes, parts.bus, parts.exits
    network = NetworkHandlers(networks, store, bus.publish)
    create = CreateHandlers(
        store,
        graph,
        MountPlanner(parts.volumes, store.get),
        bus,
        specs.check,
        CopyUpWorker(graph.layers, options.exec_root),
        CreateDefaults(
            log_driver=options.log_driver,
            log_options=options.log_opt,
            cgroupns_mode="private" if layout_version() == 2 else "host",
            shm_bytes=parse_size(options.default_shm_size or "64m"),
        ),
    )
    start = StartHandlers(
        store,
        graph.layers,
        network,
        driver,
        specs,
        processes,
        bus,
        exits,
        parts.health,
        parts.remover,
        StepsFile(lambda subject: engine.jobs(tree=subject)),
        options,
    )
    lifecycle = LifecycleHandlers(store, processes, parts.waiters, bus, exits)
    containers = ContainerHandlers(
        store, parts.waiters, bus, exits, parts.remover, lifecycle, graph.layers.size_rw, networks.rename
    )
    logs = LogHandlers(store, processes)
    attach = AttachHandlers(store, processes, bus, logs)
    execs = ExecHandlers(store, processes, bus, driver, specs)
    listing = ListingHandlers(store, graph, processes, execs.of_container)
    engine.register(container_jobs.UpdateContainer, UpdateHandlers(store, processes, bus).update)
    engine.register(container_jobs.ContainerStats, StatsHandlers(store, processes).stats)
    files = FileHandlers(store, graph.layers, Views(graph.layers, processes, options.exec_root), bus)
    engine.register(file_jobs.ContainerChanges, files.changes)
    engine.register(file_jobs.ExportContainer, files.export)
    engine.register(file_jobs.StatPath, files.stat)
    engine.register(file_jobs.GetArchive, files.get)
    engine.register(file_jobs.PutArchive, files.put)
    engine.register(container_jobs.CreateContainer, create.create)
    engine.register(container_jobs.StartContainer, start.start)
    engine.register(container_jobs.MountRootfs, start.mount_rootfs)
    engine.register(container_jobs.RunProcess, start.run_process)
    engine.register(container_jobs.AllocateInterface, network.allocate_interface)
    engine.register(container_jobs.ReleaseInterface, network.release_interface)
    engine.register(container_jobs.StopContainer, lifecycle.stop)
    engine.register(container_jobs.RestartContainer, lifecycle.restart)
    engine.register(container_jobs.KillContainer, lifecycle.kill)
    engine.register(container_jobs.PauseContainer, lifecycle.pause)
    engine.register(container_jobs.UnpauseContainer, lifecycle.unpause)
    engine.register(container_jobs.RemoveContainer, containers.remove)
    engine.register(container_jobs.RemoveLink, containers.unlink)
    engine.register(container_jobs.PruneContainers, containers.prune)
    engine.register(container_jobs.RenameContainer, containers.rename)
    engine.register(container_jobs.WaitContainer, containers.wait)
    engine.register(container_jobs.ListContainers, listing.list)
    engine.register(container_jobs.InspectContainer, listing.inspect)
    engine.register(container_jobs.TopContainer, listing.top)
    engine.register(container_jobs.ContainerLogs, logs.logs)
    engine.register(container_jobs.AttachContainer, attach.attach)
    engine.register(container_jobs.ResizeContainer, attach.resize)
    engine.register(container_jobs.CreateExec, execs.create)
    engine.register(container_jobs.StartExec, execs.start)
    engine.register(container_jobs.ResizeExec, execs.resize)
    engine.register(container_jobs.InspectExec, execs.inspect)
    engine.register(container_jobs.HealthProbe, HealthProber(execs).probe)
    engine.register(network_jobs.InitNetworkDriver, network.init_networkdriver)
    engine.register(network_jobs.ListNetworks, network.list)
    engine.register(network_jobs.InspectNetwork, network.inspect)
    engine.register(network_jobs.CreateNetwork, network.create)
    engine.register(network_jobs.RemoveNetwork, network.remove)
    engine.register(network_jobs.PruneNetworks, network.prune)
    connections = ConnectionHandlers(networks, store, bus.publish, options)
    engine.register(network_jobs.ConnectNetwork, connections.connect)
    engine.register(network_jobs.DisconnectNetwork, connections.disconnect)
    volumes = VolumeHandlers(parts.volumes, store, bus.publish)
    engine.register(volume_jobs.ListVolumes, volumes.list)
    engine.register(volume_jobs.InspectVolume, volumes.inspect)
    engine.register(volume_jobs.CreateVolume, volumes.create)
    engine.register(volume_jobs.RemoveVolume, volumes.remove)
    engine.register(volume_jobs.PruneVolumes, volumes.prune)


def _register_images(engine: Engine, parts: _Containers, graph: Graph, options: Options) -> None:
    embedded: dict[str, Callable[[], str]] = {}
    if options.embedded_registry:
        registry = _embedded(engine, os.path.join(options.data_root, "registry"))
        embedded["pyker.local"] = registry
    client = RegistryClient(
        RegistryConfig(
            insecure_registries=options.insecure_registry,
            mirrors=options.registry_mirror,
            max_concurrent_downloads=options.max_concurrent_downloads,
            max_concurrent_uploads=options.max_concurrent_uploads,
            max_attempts=options.max_download_attempts,
            local=embedded,
        )
    )
    engine.on_shutdown(client.close)
    transfer = TransferHandlers(
        store=GraphStore(graph),
        client=client,
        folder=os.path.join(options.data_root, "tmp"),
        publish=parts.bus.publish,
    )

    def pull(job: image_jobs.Pull, ctx: JobContext) -> image_jobs.Pulled:
        with graph.layers.hold():
            return transfer.pull(job, ctx)

    engine.register(image_jobs.Pull, pull)
    engine.register(image_jobs.PullLayer, transfer.pull_layer)
    engine.register(image_jobs.Push, transfer.push)
    engine.register(image_jobs.PushLayer, transfer.push_layer)
    engine.register(image_jobs.SearchImages, transfer.search)
    engine.register(system_jobs.Auth, transfer.auth)
    archives = ArchiveHandlers(graph, os.path.join(options.data_root, "tmp"), parts.bus.publish)
    engine.register(image_jobs.SaveImages, archives.save)
    engine.register(image_jobs.LoadImages, archives.load)
    engine.register(image_jobs.InspectDistribution, DistributionHandlers(client).inspect)
    images = ImageHandlers(graph, parts.store.all, parts.bus.publish)
    engine.register(image_jobs.ListImages, images.list)
    engine.register(image_jobs.InspectImage, images.inspect)
    engine.register(image_jobs.ImageHistory, images.history)
    engine.register(image_jobs.TagImage, images.tag)
    engine.register(image_jobs.RemoveImage, images.remove)
    engine.register(image_jobs.PruneImages, images.prune)
    engine.register(image_jobs.ImportImage, images.import_image)
    commit = CommitHandlers(parts.store, graph, parts.bus, images.give_name)
    engine.register(image_jobs.CommitContainer, commit.commit)


def _embedded(engine: Engine, folder: str) -> Callable[[], str]:
    """Starts the embedded registry at its first use."""
    made: list[EmbeddedRegistry] = []
    lock = threading.Lock()

    def url() -> str:
        from pyker.registry.embedded import EmbeddedRegistry

        with lock:
            if not made:
                made.append(EmbeddedRegistry(folder))
        return made[0].url()

    def close() -> None:
        for registry in made:
            registry.close()

    engine.on_shutdown(close)
    return url


def _register_system(
    engine: Engine,
    parts: _Containers,
    graph: Graph,
    driver: ExecDriver,
    networks: Networks,
    options: Options,
) -> None:
    about = Platform(host.engine_id(options.data_root), driver.name, tuple(networks.warnings()))
    system = SystemHandlers(engine, parts.store, graph, parts.bus, options, about, networks.drivers)
    events = EventHandlers(parts.bus)
    engine.register(system_jobs.Info, system.info)
    engine.register(system_jobs.Version, system.version)
    usage = DiskUsageHandlers(graph, parts.store, parts.volumes)
    engine.register(system_jobs.MeasureDisk, usage.measure)
    engine.register(system_jobs.ListJobs, system.jobs)
    engine.register(system_jobs.StreamEvents, events.stream)
    engine.register(system_jobs.EventLogged, events.log_event)


def _bridge_options(options: Options) -> BridgeOptions:
    return BridgeOptions(
        bridge=options.bridge,
        bip=options.bip,
        mtu=options.mtu,
        icc=options.icc,
        ip=options.ip,
        ip_masq=options.ip_masq,
        ip_forward=options.ip_forward,
        iptables=options.iptables,
        userland_proxy=options.userland_proxy,
    )


def _spec_options(options: Options, remap: userns.Remap) -> SpecOptions:
    limits = [parse_ulimit(text) for text in options.default_ulimit]
    cache = os.path.join(options.data_root, "seccomp")
    os.makedirs(cache, mode=0o700, exist_ok=True)
    return SpecOptions(
        cgroup_parent=cgroup_parent(options),
        default_ulimits=tuple(Ulimit(name=name, soft=soft, hard=hard) for name, soft, hard in limits),
        seccomp_cache=cache,
        apparmor_record=os.path.join(options.exec_root, "apparmor"),
        remap=remap,
    )
