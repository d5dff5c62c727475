"""Layers as overlayfs lower folders, one beside the other.

``<root>/<cache-id>/{diff,link,lower,work,committed}`` and ``<root>/l/<26 characters>`` -> ``../<cache-id>/diff``, with
the reference engine's names and meaning. The short links are there because mount(2) takes at most one page of options.

Source: Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Container, Sequence

from pyker.errors import KernelError, SystemFailure
from pyker.graphdriver import backing
from pyker.graphdriver.base import RootfsSpec
from pyker.libcontainer import syscalls
from pyker.types.ids import CacheId
from pyker.types.mount import Mount
from pyker.types.probe import Probe

log = logging.getLogger(__name__)

_LINKS = "l"
_LINK_LENGTH = 26
_OPTIONS_MAX = os.sysconf("SC_PAGE_SIZE") - 1
_PARAMETERS = "/sys/module/overlay/parameters"
_PROBE_TIMEOUT_S = 20


def _features_off() -> tuple[str, ...]:
    """Options that keep layers portable: no redirects, metadata-only copies or index, whatever the kernel's default."""
    return tuple(
        f"{name}=off" for name in ("index", "redirect_dir", "metacopy") if os.path.exists(f"{_PARAMETERS}/{name}")
    )


class Overlay2Driver:
    """See ``base.GraphDriver``. ``root`` is the driver's own folder, ``<data-root>/overlay2``."""

    name = "overlay2"

    def __init__(self, root: str) -> None:
        self.root = root
        os.makedirs(os.path.join(root, _LINKS), 0o700, exist_ok=True)
        os.chmod(root, 0o710)
        self._links: dict[CacheId, str] = {}
        self._lock = threading.Lock()
        self._off = _features_off()
        self._facts: dict[str, bool] = {}

    @classmethod
    def probe(cls, root: str) -> Probe:
        """Mount an overlay below ``root`` in a mount namespace of a process of its own. Takes some 50 ms."""
        with open("/proc/filesystems") as listing:
            known = {line.split()[-1] for line in listing}
        if "overlay" not in known and not os.path.exists(_PARAMETERS):
            return Probe(False, "the kernel has no overlayfs: load the module overlay")
        where = root
        while not os.path.isdir(where):
            where = os.path.dirname(where)
        answer = _ask(where)
        return Probe(bool(answer.get("usable")), str(answer.get("reason", "")))

    def create(self, cache_id: CacheId, parents: Sequence[CacheId]) -> str:
        """Make a layer's folder; returns its ``diff``."""
        folder = self._make(cache_id, parents)
        return os.path.join(folder, "diff")

    def commit(self, cache_id: CacheId) -> None:
        """The layer is whole and never changes again."""
        path = os.path.join(self.root, cache_id, "committed")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def create_rw(self, cache_id: CacheId, parents: Sequence[CacheId], *, storage_opt: dict[str, str]) -> None:
        """Make a container's upper folder."""
        if storage_opt:
            raise SystemFailure(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
                hint="leave --storage-opt out",
            )
        self._make(cache_id, parents)

    def rootfs(self, cache_id: CacheId, parents: Sequence[CacheId], *, readonly: bool = False) -> RootfsSpec:
        """An overlay mount; for a single read-only layer, a bind mount of it."""
        folder = os.path.join(self.root, cache_id)
        data = self.data(cache_id, parents)
        if readonly:
            lower = [cache_id, *parents]
            if len(lower) == 1:
                bind = Mount(target="/", fstype="bind", source=os.path.join(folder, "diff"), options=("rbind", "ro"))
                return RootfsSpec(mount=bind, upperdir="", data=data)
            mount = self._overlay([self._link(layer) for layer in lower], "", "")
            return RootfsSpec(mount=mount, upperdir="", data=data)
        if not parents:
            bind = Mount(target="/", fstype="bind", source=os.path.join(folder, "diff"), options=("rbind",))
            return RootfsSpec(mount=bind, upperdir=os.path.join(folder, "diff"), data=data)
        mount = self._overlay([self._link(layer) for layer in parents], f"{cache_id}/diff", f"{cache_id}/work")
        return RootfsSpec(mount=mount, upperdir=os.path.join(folder, "diff"), data=data)

    def create_host_rw(self, cache_id: CacheId) -> str:
        """Make the upper folder of a view of "/"; returns it."""
        folder = self._make(cache_id, ())
        os.mkdir(os.path.join(folder, "work"), 0o700)
        return os.path.join(folder, "diff")

    def host_rootfs(self, cache_id: CacheId) -> RootfsSpec:
        """An overlay whose only lower folder is "/": the machine's own root file system, written to in ``cache_id``."""
        folder = os.path.join(self.root, cache_id)
        options = ("lowerdir=/", f"upperdir={cache_id}/diff", f"workdir={cache_id}/work", *self._off)
        mount = Mount(target="/", fstype="overlay", source="overlay", options=options, workdir=self.root)
        data = {"LowerDir": "/"} | self.data(cache_id, ())
        return RootfsSpec(mount=mount, upperdir=os.path.join(folder, "diff"), data=data)

    def data(self, cache_id: CacheId, parents: Sequence[CacheId]) -> dict[str, str]:
        """What inspect shows as ``GraphDriver.Data``."""
        folder = os.path.join(self.root, cache_id)
        lower = ":".join(os.path.join(self.root, layer, "diff") for layer in parents)
        return ({"LowerDir": lower} if lower else {}) | {
            "MergedDir": os.path.join(folder, "merged"),
            "UpperDir": os.path.join(folder, "diff"),
            "WorkDir": os.path.join(folder, "work"),
        }

    def diff_path(self, cache_id: CacheId) -> str:
        """The layer's own folder."""
        return os.path.join(self.root, cache_id, "diff")

    def remove(self, cache_id: CacheId) -> None:
        """Delete the layer's folder and its short link. What is half deleted at a crash, ``prune`` finds."""
        folder = os.path.join(self.root, cache_id)
        if not os.path.isdir(folder):
            return
        try:
            link = self._link(cache_id)
            os.unlink(os.path.join(self.root, _LINKS, link))
        except (FileNotFoundError, SystemFailure):
            pass
        with self._lock:
            self._links.pop(cache_id, None)
        # A container that wrote nothing leaves a known handful of names: much faster than a walk.
        try:
            for name in ("link", "lower"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))
            for name in ("work/work", "work", "diff"):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError:
            self._delete(folder)

    def exists(self, cache_id: CacheId) -> bool:
        return os.path.isdir(os.path.join(self.root, cache_id, "diff"))

    def prune(self, keep: Container[str]) -> list[str]:
        """Delete every layer that is not in ``keep``, half-made ones, and short links that lead nowhere."""
        removed = []
        for name in os.listdir(self.root):
            if name == _LINKS or name in keep:
                continue
            try:
                self._delete(os.path.join(self.root, name))
            except KernelError as error:
                # Something is mounted there: no reason not to start.
                log.warning("the leftover %s stays: %s", os.path.join(self.root, name), error)
                continue
            removed.append(name)
        links = os.path.join(self.root, _LINKS)
        for name in os.listdir(links):
            if not os.path.exists(os.path.join(links, name)):
                os.unlink(os.path.join(links, name))
        return removed

    def status(self) -> list[tuple[str, str]]:
        """Pairs for ``docker info``."""
        if not self._facts:
            answer = _ask(self.root)
            self._facts = {key: bool(answer.get(key)) for key in ("d_type", "native_diff")}
        return [
            ("Backing Filesystem", backing.name(self.root)),
            ("Supports d_type", _word(self._facts["d_type"])),
            ("Native Overlay Diff", _word(self._facts["native_diff"])),
            ("userxattr", "false"),
        ]

    def whiteout_style(self) -> str:
        return "overlay"

    def _make(self, cache_id: CacheId, parents: Sequence[CacheId]) -> str:
        folder = os.path.join(self.root, cache_id)
        try:
            os.mkdir(folder, 0o710)
        except FileExistsError:
            self.remove(cache_id)
            os.mkdir(folder, 0o710)
        root_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.mkdir("diff", 0o755, dir_fd=root_fd)
            # mkdir(2) counts the umask, and the process's umask is nobody's to change.
            diff = os.open("diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
            try:
                os.fchmod(diff, 0o755)
            finally:
                os.close(diff)
            link = base64.b32encode(os.urandom(17))[:_LINK_LENGTH].decode()
            os.symlink(f"../{cache_id}/diff", os.path.join(self.root, _LINKS, link))
            _write(root_fd, "link", link)
            if parents:
                os.mkdir("work", 0o700, dir_fd=root_fd)
                _write(root_fd, "lower", ":".join(f"{_LINKS}/{self._link(parent)}" for parent in parents))
        finally:
            os.close(root_fd)
        with self._lock:
            self._links[cache_id] = link
        return folder

    def _link(self, cache_id: CacheId) -> str:
        link = self._links.get(cache_id)
        if link is not None:
            return link
        path = os.path.join(self.root, cache_id, "link")
        try:
            with open(path) as file:
                link = file.read()
        except FileNotFoundError as error:
            raise SystemFailure(f"the layer {cache_id!r} is missing from {self.root!r}") from error
        target = os.path.join(self.root, _LINKS, link)
        if len(link) != _LINK_LENGTH or not os.path.lexists(target):
            link = self._relink(cache_id, path)
        with self._lock:
            self._links[cache_id] = link
        return link

    def _relink(self, cache_id: CacheId, path: str) -> str:
        """A layer whose short link was lost (an empty file after a power cut) gets a new one."""
        link = base64.b32encode(os.urandom(17))[:_LINK_LENGTH].decode()
        os.symlink(f"../{cache_id}/diff", os.path.join(self.root, _LINKS, link))
        with open(path, "w") as file:
            file.write(link)
        return link

    def _overlay(self, links: Sequence[str], upper: str, work: str) -> Mount:
        """Absolute paths while they fit and need no quoting, else paths relative to the driver's folder."""
        for prefix in (self.root + "/", ""):
            options = ["lowerdir=" + ":".join(f"{prefix}{_LINKS}/{link}" for link in links)]
            if upper:
                options += [f"upperdir={prefix}{upper}", f"workdir={prefix}{work}"]
            options += self._off
            if sum(map(len, options)) + len(options) <= _OPTIONS_MAX and not set(prefix) & set(",:\\"):
                workdir = "" if prefix else self.root
                return Mount(target="/", fstype="overlay", source="overlay", options=tuple(options), workdir=workdir)
        raise SystemFailure(
            f"{len(links)} layers need more mount options than the kernel takes ({_OPTIONS_MAX} bytes)",
            hint="build the image with fewer layers",
        )

    def _delete(self, path: str) -> None:
        try:
            syscalls.remove_tree(path)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            os.unlink(path)
        except OSError as error:
            raise KernelError.from_oserror(error, syscall="unlinkat", stage="remove layer") from error


def _write(dir_fd: int, name: str, text: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=dir_fd)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _ask(where: str) -> dict[str, object]:
    """Run the trial in a process of its own: mount namespaces and threads do not mix."""
    command = [sys.executable, "-m", "pyker.graphdriver.overlaytrial", where]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"usable": False, "reason": f"the trial mount under {where!r} took more than {_PROBE_TIMEOUT_S} s"}
    try:
        answer: dict[str, object] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no answer"]
        return {"usable": False, "reason": f"the trial mount failed: {lines[-1]}"}
    return answer


def is_whiteout(found: os.stat_result) -> bool:
    """Whether an entry of a layer's folder means that lower layers' entry is gone."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
