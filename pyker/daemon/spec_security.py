"""Security options: capabilities, seccomp, AppArmor, no-new-privileges, hidden paths."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from msgspec.structs import replace as replace_struct

from pyker.container.record import Container
from pyker.errors import InvalidParameter
from pyker.libcontainer import apparmor, capabilities, seccomp
from pyker.libcontainer.spec import Capabilities
from pyker.types.config import HostConfig

UNCONFINED = "unconfined"

_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

READONLY: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What can be read, but not written to."""


@functools.cache
def masked() -> tuple[str, ...]:
    """What shows as empty in a container; power readings of each CPU are among it, for they leak what others do."""
    base = "/sys/devices/system/cpu"
    try:
        cpus = sorted(name for name in os.listdir(base) if name.startswith("cpu") and name[3:].isdigit())
    except OSError:
        cpus = []
    throttles = [f"{base}/{name}/thermal_throttle" for name in cpus]
    return (*_MASKED, *(path for path in throttles if os.path.isdir(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityOptions:
    """``--security-opt``, read. Empty strings mean: not given."""

    seccomp: str = ""
    apparmor: str = ""
    no_new_privileges: bool | None = None
    unconfined_paths: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What confines a process. ``seccomp`` is a compiled program, empty for none."""

    capabilities: Capabilities
    seccomp: bytes
    apparmor_profile: str
    no_new_privileges: bool
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class Defaults(Protocol):
    """The part of ``SpecOptions`` that matters here."""

    @property
    def no_new_privileges(self) -> bool: ...
    @property
    def seccomp_cache(self) -> str: ...
    @property
    def seccomp_profile(self) -> str: ...


def _true(text: str, option: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise InvalidParameter(f'invalid --security-opt 2: "{option}"')


def parse_options(options: Iterable[str] | None) -> SecurityOptions:
    """Read HostConfig.SecurityOpt. Raises: InvalidParameter with the reference engine's words."""
    found = SecurityOptions()
    for option in options or ():
        if option == "no-new-privileges":
            found = replace(found, no_new_privileges=True)
            continue
        if option == "disable":
            found = replace(found, labels=(*found.labels, "disable"))
            continue
        separator = "=" if "=" in option else ":"
        name, separator, value = option.partition(separator)
        if not separator:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        match name:
            case "label":
                found = replace(found, labels=(*found.labels, value))
            case "apparmor":
                found = replace(found, apparmor=value)
            case "seccomp":
                found = replace(found, seccomp=value)
            case "no-new-privileges":
                found = replace(found, no_new_privileges=_true(value, option))
            case "systempaths" if value == UNCONFINED:
                found = replace(found, unconfined_paths=True)
            case _:
                raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return found


def check(options: Iterable[str] | None, *, privileged: bool) -> None:
    """Raises: InvalidParameter or NotSupported for security options that no container could be started with."""
    found = parse_options(options)
    if found.seccomp not in ("", UNCONFINED, "builtin"):
        seccomp.check(found.seccomp)
    _apparmor(found.apparmor, privileged=privileged)


def seccomp_program(chosen: str, default: str, names: tuple[str, ...], cache_dir: str) -> bytes:
    """The compiled filter for ``chosen`` ("", "unconfined", "builtin" or JSON) and a set of capabilities."""
    profile = chosen or default
    if profile == UNCONFINED:
        return b""
    text = None if profile in ("", "builtin") else profile
    return seccomp.compile_profile(text, names, cache_dir=cache_dir)


def _apparmor(chosen: str, *, privileged: bool) -> str:
    """The profile to run under, "" for none. Raises: NotSupported if one is asked for and AppArmor is off."""
    if not apparmor.enabled():
        if chosen not in ("", UNCONFINED):
            apparmor.require()
        return ""
    if chosen == UNCONFINED or (privileged and not chosen):
        return UNCONFINED
    if chosen:
        apparmor.check_name(chosen)
        return chosen
    return apparmor.DEFAULT_PROFILE if apparmor.loaded(apparmor.DEFAULT_PROFILE) else ""


def build(container: Container, defaults: Defaults, *, exec_privileged: bool = False) -> Security:
    """What confines the container's processes; a privileged exec has all capabilities and no filter.

    Raises: InvalidParameter, NotSupported.
    """
    host = container.host_config
    options = parse_options(host.security_opt)
    everything = host.privileged or exec_privileged
    names, warnings = capabilities.resolve(host.cap_add or (), host.cap_drop or (), privileged=everything)
    sets = Capabilities(bounding=names, effective=names, permitted=names)
    chosen = UNCONFINED if everything and not options.seccomp else options.seccomp
    if exec_privileged:
        chosen = UNCONFINED
    wanted = options.no_new_privileges
    no_new_privileges = defaults.no_new_privileges if wanted is None else wanted
    masked_paths, readonly_paths = hidden(container, options)
    return Security(
        capabilities=sets,
        seccomp=seccomp_program(chosen, defaults.seccomp_profile, names, defaults.seccomp_cache),
        apparmor_profile=UNCONFINED
        if exec_privileged and apparmor.enabled()
        else _apparmor(options.apparmor, privileged=host.privileged),
        no_new_privileges=no_new_privileges or container.no_new_privileges,
        masked_paths=masked_paths,
        readonly_paths=readonly_paths,
        warnings=warnings,
    )


def with_hidden_paths(host: HostConfig) -> HostConfig:
    """``host`` with the default paths written out, as inspect shows them; for the record that create makes."""
    if host.privileged:
        return host
    return replace_struct(
        host,
        masked_paths=masked() if host.masked_paths is None else host.masked_paths,
        readonly_paths=READONLY if host.readonly_paths is None else host.readonly_paths,
    )


def hidden(container: Container, options: SecurityOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(masked paths, read-only paths): lists of the user's own replace the default ones, empty ones clear them."""
    host = container.host_config
    if host.privileged or options.unconfined_paths:
        return (), ()
    masked_paths = masked() if host.masked_paths is None else host.masked_paths
    readonly_paths = READONLY if host.readonly_paths is None else host.readonly_paths
    return masked_paths, readonly_paths
