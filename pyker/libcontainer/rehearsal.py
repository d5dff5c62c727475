"""Those parts of a start that change nothing, played before there is anything to start.

Each first run of code is slow, and in a process that was just forked every run is a first one: the memory it writes
must be copied page by page. The launcher plays this until the interpreter has specialised the code, which its children
then share; a starter and a cradle that wait play their parts once more, so that the copies are made before a request
comes.
"""

from __future__ import annotations

import contextlib
import os

from pyker.errors import PykerError
from pyker.libcontainer import (
    capabilities,
    cgroupmounts,
    command,
    handshake,
    mounts,
    namespaces,
    rootfs,
    statefiles,
    user,
)
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import open_cgroup
from pyker.libcontainer.handshake import Begin, Enter, Ready, Run
from pyker.libcontainer.spec import ContainerSpec, DeviceNode, ProcessSpec
from pyker.types.mount import Mount

_DEVICES = (DeviceNode("/dev/null", "c", 1, 3), DeviceNode("/dev/zero", "c", 1, 5))


_WORDS = ("nosuid", "noexec", "nodev", "ro", "size=64k")
_SPEC = ContainerSpec(
    id="rehearsal",
    state_dir="/",
    rootfs=Mount(target="/", fstype="overlay"),
    mounts=(
        Mount(target="/proc", fstype="proc", options=_WORDS),
        Mount(target="/sys/fs/cgroup", fstype="cgroup"),
    ),
    process=ProcessSpec(args=("sh",), env=("PATH=/bin",)),
    namespaces=dict.fromkeys(namespaces.FLAGS, ""),
)


def starter() -> None:
    """A starter's part. Opens what it needs and closes it again; changes nothing outside this process."""
    ours, theirs = handshake.pair()
    handshake.send(ours, Run(_SPEC))
    raw, _ = handshake.receive_raw(theirs)
    handshake.is_about_netns(raw)
    handshake.decode_request(raw)
    handshake.send(ours, Ready({"exec": 1}), (0, 1, 2))
    _, fds = handshake.receive_from_init(theirs)
    begin = Begin(name="", pid=0, start_time=0, tty=False, stdin_once=False)
    begin = handshake.changed(begin, pidfd=0, outputs=dict(zip((1, 2), (1, 2), strict=False)))
    fds.append(handshake.write_begin(begin, 1))
    for fd in fds:
        os.close(fd)
    ours.close()
    theirs.close()
    statefiles.start_time_of(os.getpid())
    with contextlib.suppress(PykerError):
        open_cgroup("/rehearsal").paths()


def init() -> None:
    """A cradle's part, and what the init that comes from it does. The same holds."""
    ours, theirs = handshake.pair()
    handshake.send(ours, Run(_SPEC))
    handshake.decode_request(handshake.receive_raw(theirs)[0])
    handshake.send(ours, Enter(), (0, 1, 2))
    for fd in handshake.receive_from_parent(theirs)[1]:
        os.close(fd)
    ours.close()
    theirs.close()
    namespaces.check(_SPEC.namespaces)
    namespaces.new_flags(_SPEC.namespaces)
    with contextlib.suppress(PykerError):
        open_cgroup("/rehearsal").paths()
    cgroupmounts.split(_SPEC.mounts)
    mounts.attributes(mounts.parse(_WORDS))
    user.resolve("", command.read_small("/etc/passwd"), command.read_small("/etc/group"), ())
    command.environment(_SPEC.process.env, "/")
    command.find("sh", command.DEFAULT_PATH)
    capabilities.mask(capabilities.DEFAULT)
    with contextlib.suppress(PykerError):
        capabilities.regain()
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(mounts.make_target(root, "/proc", ""))
    os.close(root)
    _dress_nothing()
    _fill_nothing()


def _dress_nothing() -> None:
    """Give flags to a copy of a mount that is attached nowhere."""
    with contextlib.suppress(OSError):
        tree = sc.open_tree(sc.AT_FDCWD, "/proc", sc.OPEN_TREE_CLONE)
        try:
            mounts.dress(tree, mounts.parse(_WORDS[:-1]))
        finally:
            os.close(tree)


def _fill_nothing() -> None:
    """Fill a /dev in a file system that is mounted nowhere, and is gone with its descriptor."""
    try:
        context = sc.fsopen("tmpfs")
    except OSError:
        # Before Linux 5.2.
        return
    try:
        sc.fsconfig(context, sc.FSCONFIG_CMD_CREATE)
        root = sc.fsmount(context)
    finally:
        os.close(context)
    try:
        os.close(mounts.make_target(root, "/dev/shm", "dir"))
        rootfs.fill_dev(root, _DEVICES, in_user_namespace=False)
    finally:
        os.close(root)
