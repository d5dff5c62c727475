"""Volumes of the local driver: ``volumes/<name>/_data`` and, beside it, what was said when it was made."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from contextlib import suppress

import msgspec
from msgspec import Struct

from pyker.api.gotime import format_time
from pyker.errors import Conflict, InvalidParameter, NotFound, NotSupported
from pyker.libcontainer.syscalls import remove_tree

_VALID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_RECORD = "volume.json"
_SHORTEST = 2
_OPTIONS = {"type": ("device",), "device": ("type",), "o": ("device", "type"), "size": ()}
"""What the local driver takes, and what each wants beside it."""
_UNUSED = "unused"
"""Lies in the folder of a volume until the container that it was made for is recorded."""
ANONYMOUS_LABEL = "com.docker.volume.anonymous"


class Volume(Struct, frozen=True, kw_only=True):
    """``created`` is RFC 3339, UTC. ``mountpoint`` is the folder with the data."""

    name: str
    mountpoint: str
    created: str
    driver: str = "local"
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    options: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def anonymous(self) -> bool:
        """Made for a container that gave no name; it goes when the container is removed with its volumes."""
        return ANONYMOUS_LABEL in self.labels

    @property
    def bound(self) -> str:
        """The folder of the host that the volume stands for; "" if it keeps its data itself."""
        return self.options.get("device", "")


class VolumeStore:
    """All volumes under ``<data-root>/volumes``. Thread-safe. Who uses a volume is known by the containers' records."""

    def __init__(self, root: str) -> None:
        self.root = os.path.join(root, "volumes")
        os.makedirs(self.root, mode=0o701, exist_ok=True)
        self._guard = threading.Lock()
        self._volumes: dict[str, Volume] = {}
        self._held: dict[str, int] = {}
        for entry in os.listdir(self.root):
            if os.path.exists(os.path.join(self.root, entry, _UNUSED)):
                remove_tree(os.path.join(self.root, entry))
                continue
            volume = self._read(entry)
            if volume is not None:
                self._volumes[entry] = volume

    def create(
        self,
        name: str = "",
        *,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
        unused: bool = False,
    ) -> tuple[Volume, bool]:
        """The volume of that name, made if need be ("" makes an anonymous one); and whether it is new.

        ``unused``: it is for a container that is not recorded yet, and is held until ``settle``; a new one goes at
        start-up unless ``settle``d. Raises InvalidParameter for a name that may not be one and options that cannot be.
        """
        labels = dict(labels or {})
        if not name:
            name = secrets.token_hex(32)
            labels.setdefault(ANONYMOUS_LABEL, "")
        elif len(name) < _SHORTEST:
            raise InvalidParameter(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        elif not _VALID.fullmatch(name):
            raise InvalidParameter(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        _check_options(name, options or {})
        with self._guard:
            if unused:
                self._held[name] = self._held.get(name, 0) + 1
            existing = self._volumes.get(name)
            if existing is not None:
                return existing, False
            folder = os.path.join(self.root, name)
            data = os.path.join(folder, "_data")
            os.makedirs(data, mode=0o755, exist_ok=True)
            volume = Volume(
                name=name,
                mountpoint=data,
                created=format_time(time.time_ns()),
                labels=labels,
                options=dict(options or {}),
            )
            if unused:
                os.close(os.open(os.path.join(folder, _UNUSED), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with open(os.path.join(folder, _RECORD), "wb") as file:
                file.write(msgspec.json.encode(volume))
            self._volumes[name] = volume
            return volume, True

    def settle(self, name: str) -> None:
        """The container that the volume is for is recorded."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root, name, _UNUSED))
        self.let_go(name)

    def let_go(self, name: str) -> None:
        """There will be no such container: the volume is as free as it was."""
        with self._guard:
            left = self._held.pop(name, 0) - 1
            if left > 0:
                self._held[name] = left

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        return sorted(self._volumes.values(), key=lambda volume: volume.name)

    def remove(self, name: str, users: list[str]) -> None:
        """Delete a volume and its data. Raises Conflict if it is held, or ``users`` (IDs of containers) need it."""
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        with self._guard:
            if name in self._held:
                raise Conflict(f"remove {name}: volume is in use by a container that is being made")
            if self._volumes.pop(name, None) is None:
                raise NotFound(f"get {name}: no such volume")
            remove_tree(os.path.join(self.root, name))

    def _read(self, entry: str) -> Volume | None:
        folder = os.path.join(self.root, entry)
        data = os.path.join(folder, "_data")
        if not os.path.isdir(data):
            return None
        try:
            with open(os.path.join(folder, _RECORD), "rb") as file:
                return msgspec.json.decode(file.read(), type=Volume)
        except (FileNotFoundError, msgspec.DecodeError):
            created = format_time(os.stat(data).st_ctime_ns)
            return Volume(name=entry, mountpoint=data, created=created)


def _check_options(name: str, options: dict[str, str]) -> None:
    """Raises InvalidParameter in the reference's words, NotSupported for a file system of the volume's own."""
    for option in options:
        if option not in _OPTIONS:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    for option in options:
        for other in _OPTIONS[option]:
            if other not in options:
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')
    if "size" in options:
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    words = options.get("o", "").split(",")
    if options and not ({"bind", "rbind"} & set(words) and set(words) <= {"bind", "rbind", "rw"}):
        raise NotSupported(
            f"create {name}: volumes with a file system of their own are not there yet in Pyker",
            hint="a folder of the host is: type=none, o=bind, device=FOLDER",
        )
