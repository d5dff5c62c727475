"""The process: command, environment, user, limits, and the small init that ``--init`` puts before it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Protocol

from msgspec import UNSET

from pyker.container.record import Container
from pyker.daemon.spec_security import Security
from pyker.errors import NotSupported
from pyker.jobs.containers import CreateExec
from pyker.libcontainer import capabilities, rlimits
from pyker.libcontainer.spec import ProcessSpec, Rlimit
from pyker.types.config import HostConfig, Ulimit
from pyker.types.mount import Mount

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_TARGET = "/sbin/docker-init"
_INIT_PLACES = ("/usr/libexec/docker", "/usr/local/libexec/docker", "/usr/local/lib/docker", "/usr/lib/docker")


class Defaults(Protocol):
    """The part of ``SpecOptions`` that matters here."""

    @property
    def default_ulimits(self) -> tuple[Ulimit, ...]: ...
    @property
    def init(self) -> bool: ...


def merge_env(base: Iterable[str], overrides: Iterable[str]) -> tuple[str, ...]:
    """``base`` with the values of ``overrides``, each in its first place; a name without "=" removes the variable."""
    values: dict[str, str | None] = {}
    for item in base:
        values[item.partition("=")[0]] = item
    for item in overrides:
        name, equals, _ = item.partition("=")
        values[name] = item if equals else None
    return tuple(item for item in values.values() if item is not None)


def environment(container: Container, *, tty: bool, linked: Iterable[str] = ()) -> tuple[str, ...]:
    """PATH, HOSTNAME, TERM on a terminal, links, then the container's own; HOME is init's, which knows the user."""
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={container.config.hostname}"]
    if tty:
        base.append("TERM=xterm")
    return merge_env((*base, *linked), container.config.env or ())


def ulimits(host: HostConfig, defaults: tuple[Ulimit, ...]) -> tuple[Rlimit, ...]:
    """The container's limits, and the daemon's for the names that it does not set."""
    found = {limit.name: limit for limit in defaults}
    found |= {limit.name: limit for limit in host.ulimits or ()}
    return tuple(Rlimit(name=limit.name, soft=limit.soft, hard=limit.hard) for limit in found.values())


def oom_score(wanted: int) -> tuple[int, tuple[str, ...]]:
    """Lowering the score needs CAP_SYS_RESOURCE: without it the daemon's own is the least that can be."""
    if "CAP_SYS_RESOURCE" in capabilities.bounding_set():
        return wanted, ()
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        least = int(file.read())
    if wanted >= least:
        return wanted, ()
    return least, (f"oom-score-adj {wanted} needs CAP_SYS_RESOURCE, which is missing: set to {least}",)


def container_process(
    container: Container, security: Security, defaults: Defaults, linked: Iterable[str] = ()
) -> tuple[ProcessSpec, tuple[str, ...]]:
    """The container's first process, and warnings; ``linked`` are the variables of its links.

    Raises: InvalidParameter, NotSupported (no init binary).
    """
    config, host = container.config, container.host_config
    command = (container.path, *container.args)
    if wants_init(host, defaults):
        command = (INIT_TARGET, "--", *command)
    limits, limit_warnings = _limits(host, defaults)
    oom_score_adj, oom_warnings = oom_score(host.oom_score_adj)
    process = ProcessSpec(
        args=command,
        env=environment(container, tty=config.tty, linked=linked),
        cwd=config.working_dir or "/",
        user=config.user,
        additional_groups=host.group_add or (),
        tty=config.tty,
        console_size=host.console_size,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        capabilities=security.capabilities,
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        apparmor_profile=security.apparmor_profile,
        rlimits=limits,
        oom_score_adj=oom_score_adj,
    )
    return process, (*limit_warnings, *oom_warnings)


def _limits(host: HostConfig, defaults: Defaults) -> tuple[tuple[Rlimit, ...], tuple[str, ...]]:
    wanted = ulimits(host, defaults.default_ulimits)
    for limit in wanted:
        rlimits.check(limit)
    return rlimits.clip(wanted, may_raise="CAP_SYS_RESOURCE" in capabilities.bounding_set())


def exec_process(
    container: Container, job: CreateExec, security: Security, defaults: Defaults, linked: Iterable[str] = ()
) -> ProcessSpec:
    """One more process, in the container's environment unless ``job`` says otherwise."""
    config, host = container.config, container.host_config
    limits, _ = _limits(host, defaults)
    oom_score_adj, _ = oom_score(host.oom_score_adj)
    return ProcessSpec(
        args=job.command,
        env=merge_env(environment(container, tty=job.tty, linked=linked), job.env),
        cwd=job.working_dir or config.working_dir or "/",
        user=job.user or config.user,
        additional_groups=host.group_add or (),
        tty=job.tty,
        console_size=job.console_size,
        open_stdin=job.attach_stdin,
        stdin_once=job.attach_stdin,
        capabilities=security.capabilities,
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        apparmor_profile=security.apparmor_profile,
        rlimits=limits,
        oom_score_adj=oom_score_adj,
    )


def wants_init(host: HostConfig, defaults: Defaults) -> bool:
    """``--init`` makes sense only where the container has a PID 1 of its own."""
    wanted = defaults.init if host.init is UNSET or host.init is None else host.init
    return wanted and not host.pid_mode


def find_init() -> str:
    """The statically linked init of this host, "" if there is none; a dynamic one finds no libc in the container."""
    for folder in _INIT_PLACES:
        path = f"{folder}/docker-init"
        if os.access(path, os.X_OK):
            return path
    for name in ("docker-init", "tini-static", "catatonit"):
        found = shutil.which(name)
        if found:
            return found
    return ""


def init_mounts(host: HostConfig, defaults: Defaults) -> tuple[Mount, ...]:
    """The bind of the init binary, if it is wanted. Raises: NotSupported if the host has none."""
    if not wants_init(host, defaults):
        return ()
    source = find_init()
    if not source:
        raise NotSupported("--init needs docker-init, which is not installed", hint="install the package tini")
    bind = Mount(target=INIT_TARGET, fstype="bind", source=source, options=("bind", "ro", "rprivate"), create="file")
    return (bind,)
