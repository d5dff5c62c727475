"""Those parts of a start that change nothing, played before there is anything to start.

Each first run of code is slow, and in a process that was just forked every run is a first one: the memory it writes
must be copied page by page. The launcher plays this until the interpreter has specialised the code, which its children
then share; a starter that waits plays it once more, so that its copies are made before a request comes.
"""

from __future__ import annotations

import os

from pyker.libcontainer import cgroupmounts, command, handshake, mounts, namespaces, statefiles, user
from pyker.libcontainer.handshake import Ready, Run
from pyker.libcontainer.spec import ContainerSpec, ProcessSpec
from pyker.types.mount import Mount


def start() -> None:
    """Play it. Opens what it needs and closes it again; changes nothing outside this process."""
    words = ("nosuid", "noexec", "nodev", "ro", "size=64k")
    every = Mount(target="/proc", fstype="proc", options=words)
    spec = ContainerSpec(
        id="rehearsal",
        state_dir="/",
        rootfs=Mount(target="/", fstype="overlay"),
        mounts=(every, Mount(target="/sys/fs/cgroup", fstype="cgroup")),
        process=ProcessSpec(args=("sh",), env=("PATH=/bin",)),
        namespaces=dict.fromkeys(namespaces.FLAGS, ""),
    )
    ours, theirs = handshake.pair()
    handshake.send(ours, Run(spec))
    handshake.decode_request(handshake.receive_raw(theirs)[0])
    handshake.send(ours, Ready({"exec": 1}))
    handshake.receive_from_init(theirs)
    ours.close()
    theirs.close()
    namespaces.check(spec.namespaces)
    namespaces.new_flags(spec.namespaces)
    cgroupmounts.split(spec.mounts)
    mounts.attributes(mounts.parse(words))
    user.resolve("", command.read_small("/etc/passwd"), command.read_small("/etc/group"), ())
    command.environment(spec.process.env, "/")
    command.find("sh", command.DEFAULT_PATH)
    statefiles.start_time_of(os.getpid())
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(mounts.make_target(root, "/proc", ""))
    os.close(root)
