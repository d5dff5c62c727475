"""An exec: a process that joins a running container and executes one more command there.

The cradle of the exec has joined the container's PID namespace for its children, so this child is a process of the
container from birth; the other namespaces, the root among them, it joins by a pidfd of the container's init, all in
one setns(2).
"""

from __future__ import annotations

import os
from typing import NoReturn

from pyker.errors import Conflict
from pyker.libcontainer import credentials, handshake, namespaces, statefiles
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup
from pyker.libcontainer.handshake import Exec, Failure, Socket
from pyker.libcontainer.init import Stages, report


def open_target(request: Exec) -> int:
    """A pidfd of the container's init. Raises: Conflict if it is gone, whoever may have its number by now."""
    try:
        pidfd = os.pidfd_open(request.pid)
    except ProcessLookupError:
        raise Conflict(f"Container {request.container_id} is not running") from None
    if statefiles.start_time_of(request.pid) != request.start_time:
        os.close(pidfd)
        raise Conflict(f"Container {request.container_id} is not running")
    return pidfd


def main(request: Exec, target: int, channel: Socket, cgroup: Cgroup | None) -> NoReturn:
    """Join and execute. ``channel`` leads to the exec's starter, as init's does to its own."""
    stages = Stages("fork", request.sent_ns)
    try:
        _join_and_execute(request, target, channel, cgroup, stages)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the starter must hear of it before we vanish
        report(channel, Failure.of(error, stages.current))
    os._exit(1)


def _join_and_execute(
    request: Exec,
    target: int,
    channel: Socket,
    cgroup: Cgroup | None,
    stages: Stages,
) -> NoReturn:
    # Once inside, processes of the container see this one: they must not reach the launcher's memory through it.
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    stages.enter("cgroup")
    if cgroup is not None:
        cgroup.join()
    stages.enter("namespaces")
    flags = sum(namespaces.FLAGS[name] for name in request.namespaces if name not in ("pid", "cgroup"))
    flags |= sc.CLONE_NEWCGROUP if "cgroup" in request.namespaces else 0
    try:
        sc.setns(target, flags)
    except ProcessLookupError:
        raise Conflict(f"Container {request.container_id} is not running") from None
    if "user" in request.namespaces:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    credentials.detach(request.container_id)
    _, stdio = handshake.receive_from_parent(channel)
    if request.process.tty:
        stages.enter("terminal")
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        slave = credentials.make_terminal(root, channel, request.process)
        os.close(root)
        stdio = [slave] * 3
    stages.enter("security")
    credentials.assume_and_execute(request.process, stdio, channel, stages, make_cwd=False)
