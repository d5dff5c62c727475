"""From a container's record to what libcontainer runs: the one place where the API's words get their kernel meaning.

The pieces are split by subject: ``spec_security``, ``spec_mounts``, ``spec_resources``, ``spec_process``; what a create
request may ask for at all is in ``spec_checks``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from msgspec import UNSET

from pyker.container.record import Container
from pyker.daemon import links, spec_checks, spec_log, spec_mounts, spec_process, spec_resources, spec_security, userns
from pyker.errors import Conflict, InvalidParameter, NotFound, PykerError
from pyker.graphdriver.base import RootfsSpec
from pyker.jobs.containers import CreateExec
from pyker.libcontainer import apparmor, capabilities
from pyker.libcontainer.spec import ContainerSpec, ProcessSpec
from pyker.networkdriver.base import Sandbox
from pyker.types import signals
from pyker.types.config import ContainerConfig, HostConfig, Ulimit

log = logging.getLogger("pyker.daemon")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecOptions:
    """What the daemon's own options say about every container.

    ``seccomp_cache`` is a folder for compiled filters, "" for none. ``seccomp_profile`` is the JSON text of the profile
    used where a container asks for none, "" for the built-in one. ``apparmor_record`` is for ``apparmor.load_default``.
    """

    cgroup_parent: str = "/pyker"
    default_ulimits: tuple[Ulimit, ...] = ()
    init: bool = False
    no_new_privileges: bool = False
    seccomp_cache: str = ""
    seccomp_profile: str = ""
    apparmor_record: str = ""
    remap: userns.Remap = userns.UNMAPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSpec:
    """A spec, and what the user should hear about it."""

    spec: ContainerSpec
    warnings: tuple[str, ...] = ()


Lookup = Callable[[str], Container]
"""A container by ID, prefix or name. Raises: NotFound."""


class Specs:
    """Builds the specs of containers and execs. Keeps nothing between calls; thread-safe."""

    def __init__(self, options: SpecOptions, lookup: Lookup) -> None:
        self._options = options
        self._lookup = lookup

    def container_spec(
        self, container: Container, rootfs: RootfsSpec, sandbox: Sandbox | None, state_dir: str
    ) -> ContainerSpec:
        """``build_spec``, with the warnings written to the daemon's log."""
        netns_path = None if sandbox is None else sandbox.netns_path
        built = build_spec(container, rootfs, netns_path, state_dir, self._options, self._lookup)
        for warning in built.warnings:
            log.warning("container %s: %s", container.id[:12], warning)
        return built.spec

    def exec_spec(self, container: Container, job: CreateExec) -> ProcessSpec:
        """One more process for a running container. Raises: InvalidParameter, NotSupported."""
        return build_exec(container, job, self._options, links.environment(container, self._lookup))

    def check(self, config: ContainerConfig, host: HostConfig) -> tuple[str, ...]:
        """``spec_checks.validate``, and the containers whose namespaces are to be joined must exist.

        Raises: InvalidParameter, NotFound, NotSupported.
        """
        for mode in (host.ipc_mode, host.pid_mode):
            if name := _other(mode):
                try:
                    self._lookup(name)
                except NotFound as error:
                    raise InvalidParameter(f"No such container: {name}") from error
        self._options.remap.check(host)
        return spec_checks.validate(config, host)

    def warm(self) -> None:
        """Compile the default seccomp profile and load the AppArmor one, so that no container need wait for them."""
        try:
            spec_security.seccomp_program(
                "", self._options.seccomp_profile, capabilities.DEFAULT, self._options.seccomp_cache
            )
        except PykerError as error:
            log.warning("seccomp: %s", error)
        if apparmor.enabled():
            try:
                apparmor.load_default(self._options.apparmor_record)
            except PykerError as error:
                log.warning("containers run without AppArmor: %s; %s", error, error.hint)


def build_spec(
    container: Container,
    rootfs: RootfsSpec,
    netns_path: str | None,
    state_dir: str,
    options: SpecOptions,
    lookup: Lookup,
) -> BuiltSpec:
    """Everything that it takes to run ``container``.

    ``netns_path`` is the pinned network namespace to join, "" for the host's own, None for a new and empty one.
    ``lookup`` finds the containers that ``--pid container:x`` and ``--ipc container:x`` name.
    Raises: InvalidParameter, NotFound, Conflict (the other container does not run), NotSupported.
    Source: Docker API v1.45 POST /containers/{id}/start; seed: docker run, step 2.
    """
    config, host = container.config, container.host_config
    security = spec_security.build(container, options)
    mounts = spec_mounts.build(container, ipc_donor=_donor(host.ipc_mode, "IPC", lookup))
    linked = links.environment(container, lookup)
    process, process_warnings = spec_process.container_process(container, security, options, linked)
    resources, nodes, resource_warnings = spec_resources.build(container)
    init_mounts = spec_process.init_mounts(host, options)
    remapped = options.remap.applies(host)
    namespaces = _namespaces(host, netns_path, lookup)
    spec = ContainerSpec(
        id=container.id,
        state_dir=state_dir,
        rootfs=replace(rootfs.mount, idmap=remapped),
        mounts=(*mounts.mounts, *init_mounts),
        process=process,
        namespaces={"user": "", **namespaces} if remapped else namespaces,
        hostname="" if host.uts_mode == "host" else _hostname(container, lookup),
        domainname="" if host.uts_mode == "host" else config.domainname,
        readonly_rootfs=host.readonly_rootfs,
        rootfs_propagation=mounts.rootfs_propagation,
        devices=nodes,
        masked_paths=security.masked_paths,
        readonly_paths=security.readonly_paths,
        sysctls=_sysctls(host, netns_path),
        uid_mappings=options.remap.uid_mappings if remapped else (),
        gid_mappings=options.remap.gid_mappings if remapped else (),
        cgroup_path=cgroup_path(container, options),
        resources=resources,
        log=spec_log.build(container),
        stop_signal=signals.parse(config.stop_signal) if config.stop_signal not in (UNSET, "") else 15,
        disposable=host.auto_remove,
    )
    return BuiltSpec(spec=spec, warnings=(*security.warnings, *process_warnings, *resource_warnings))


def build_exec(
    container: Container, job: CreateExec, options: SpecOptions, linked: tuple[str, ...] = ()
) -> ProcessSpec:
    """One more process in ``container``: its environment, working directory and rights unless ``job`` says otherwise.

    ``linked`` are the variables that its links give it.

    Source: Docker API v1.45 POST /containers/{id}/exec.
    """
    security = spec_security.build(container, options, exec_privileged=job.privileged)
    return spec_process.exec_process(container, job, security, options, linked)


def cgroup_path(container: Container, options: SpecOptions) -> str:
    """Where the container's cgroup is, below each hierarchy's mount point."""
    parent = container.host_config.cgroup_parent or options.cgroup_parent or "/pyker"
    return f"/{parent.strip('/')}/{container.id}"


def _other(mode: str) -> str:
    """The container that a mode ``container:x`` names, else ""."""
    kind, _, name = mode.partition(":")
    return name if kind == "container" else ""


def _running(name: str, what: str, lookup: Lookup) -> Container:
    other = lookup(name)
    if not other.state.running or not other.state.pid:
        reason = f"container {other.id} is not running"
        raise Conflict(reason if what == "PID" else f"can't join {what} of container {other.id}: {reason}")
    return other


def _donor(mode: str, what: str, lookup: Lookup) -> Container | None:
    """The container whose IPC namespace is joined. Raises: Conflict if it does not share it."""
    name = _other(mode)
    if not name:
        return None
    other = _running(name, what, lookup)
    if other.host_config.ipc_mode not in ("shareable", "host"):
        raise InvalidParameter(
            f"can't join IPC of container {other.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)"
        )
    return other


def _namespaces(host: HostConfig, netns_path: str | None, lookup: Lookup) -> dict[str, str]:
    namespaces = {"mnt": ""}
    if host.uts_mode != "host":
        namespaces["uts"] = ""
    if host.ipc_mode != "host":
        donor = _donor(host.ipc_mode, "IPC", lookup)
        namespaces["ipc"] = f"/proc/{donor.state.pid}/ns/ipc" if donor else ""
    if host.pid_mode != "host":
        name = _other(host.pid_mode)
        namespaces["pid"] = f"/proc/{_running(name, 'PID', lookup).state.pid}/ns/pid" if name else ""
    if netns_path is None:
        namespaces["net"] = ""
    elif netns_path:
        namespaces["net"] = netns_path
    if host.cgroupns_mode == "private":
        namespaces["cgroup"] = ""
    return namespaces


def _hostname(container: Container, lookup: Lookup) -> str:
    """A container that shares another's network shares its name too."""
    name = _other(container.host_config.network_mode)
    if container.config.hostname or not name:
        return container.config.hostname
    other = lookup(name)
    return other.config.hostname or other.id[:12]


def _sysctls(host: HostConfig, netns_path: str | None) -> dict[str, str]:
    """In a network namespace of its own, any user may bind low ports and ping, as with the reference engine."""
    given = {} if host.sysctls is UNSET else host.sysctls or {}
    if netns_path == "" or _other(host.network_mode):
        return dict(given)
    defaults = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    return {**defaults, **given}
