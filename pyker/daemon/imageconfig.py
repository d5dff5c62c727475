"""What a container takes over from its image.

Source: Docker API v1.45 POST /containers/create; OCI image-spec config.md.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from pyker.errors import Corrupt
from pyker.types.config import ContainerConfig, HealthConfig, Wire


class ImageConfig(Wire, frozen=True):
    """The part ``config`` of an image's configuration file, as far as a container inherits it."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthConfig | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None


def read_image_config(fields: dict[str, object]) -> ImageConfig:
    """The configuration of an image's file. Raises Corrupt if it has another shape."""
    try:
        return msgspec.convert(fields.get("config") or {}, ImageConfig)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the image's configuration cannot be read: {error}") from error


def merge(config: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """The container's configuration, with what it leaves open filled in from the image."""
    changes: dict[str, object] = {}
    if not config.user and image.user:
        changes["user"] = image.user
    if image.exposed_ports:
        own = {} if config.exposed_ports is UNSET else config.exposed_ports
        changes["exposed_ports"] = {**image.exposed_ports, **own}
    changes["env"] = _merge_env(config.env, image.env)
    if image.labels:
        changes["labels"] = {**image.labels, **(config.labels or {})}
    elif config.labels is None:
        changes["labels"] = {}
    if not config.entrypoint:
        if not config.cmd:
            changes["cmd"] = image.cmd
        if config.entrypoint is None:
            changes["entrypoint"] = image.entrypoint
    elif config.entrypoint == ("",):
        changes["entrypoint"] = None
    if image.volumes:
        changes["volumes"] = {**image.volumes, **(config.volumes or {})}
    if not config.working_dir and image.working_dir:
        changes["working_dir"] = image.working_dir
    if config.stop_signal is UNSET and image.stop_signal:
        changes["stop_signal"] = image.stop_signal
    if (config.shell is UNSET or not config.shell) and image.shell:
        changes["shell"] = image.shell
    health = _merge_health(config.healthcheck, image.healthcheck)
    if health is not config.healthcheck:
        changes["healthcheck"] = health
    return replace(config, **changes)


def _merge_env(own: tuple[str, ...] | None, image: tuple[str, ...] | None) -> tuple[str, ...]:
    """The container's own variables first, then those of the image that it does not set."""
    mine = tuple(own or ())
    names = {entry.partition("=")[0] for entry in mine}
    return mine + tuple(entry for entry in image or () if entry.partition("=")[0] not in names)


def _merge_health(own: object, image: HealthConfig | None) -> object:
    if image is None:
        return own
    if not isinstance(own, HealthConfig):
        return image
    if not own.test:
        return HealthConfig(
            test=image.test,
            interval=own.interval or image.interval,
            timeout=own.timeout or image.timeout,
            retries=own.retries or image.retries,
            start_period=own.start_period or image.start_period,
            start_interval=own.start_interval or image.start_interval,
        )
    return own
