"""The cradle: a process in which everything that an init does was done before, waiting to be one.

The monitor forks it ahead of a request, and the starter hands it the request as it came. Its child, init, goes on in
the cradle's memory (``pyker.libcontainer.inplace``), where no page need be copied any more, and leaves it by execve.
The child is the monitor's, by CLONE_PARENT. After that the cradle only sleeps, until the monitor kills it.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from signal import SIGKILL
from typing import NoReturn, TypeVar

from pyker.errors import PykerError
from pyker.libcontainer import handshake, init, inplace, namespaces, rehearsal, setns, usernamespace
from pyker.libcontainer import syscalls as sc
from pyker.libcontainer.cgroups import Cgroup, open_cgroup
from pyker.libcontainer.handshake import Born, Exec, Failure, Run, Socket

T = TypeVar("T")

_WITHOUT_BIRTH = (errno.E2BIG, errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP)
"""A kernel before Linux 5.7 has no CLONE_INTO_CGROUP; a cgroup whose processes made others below may refuse."""


def main(channel: Socket, errors_to: int) -> NoReturn:
    """Take one request from the starter's end of ``channel``. ``errors_to`` is the daemon's own log. Never returns."""
    try:
        # Whoever would kill it is its parent; that one may be killed too.
        sc.prctl(sc.PR_SET_PDEATHSIG, SIGKILL)
        sc.set_title("pyker-cradle")
        # What the launcher and the monitor have open is no business of a container's.
        sc.close_all_but({0, 1, 2, channel.fileno(), errors_to})
        if not select.select([channel], [], [], 0)[0]:
            rehearsal.init()
        try:
            raw, _ = handshake.receive_raw(channel)
        except EOFError:
            os._exit(0)
        try:
            request = handshake.decode_request(raw)
            match request:
                case Run():
                    _run(request, channel)
                case Exec():
                    _exec(request, channel)
        except (PykerError, OSError) as error:
            init.report(channel, Failure.of(error, "clone"))
    except BaseException:  # noqa: BLE001 - a fault of ours: leave its trace where somebody looks
        import traceback

        os.write(errors_to, traceback.format_exc().encode())
    os._exit(1)


def _run(request: Run, channel: Socket) -> NoReturn:
    spec = request.spec
    namespaces.check(spec.namespaces)
    cgroup = open_cgroup(spec.cgroup_path) if spec.cgroup_path else None
    if usernamespace.own(spec):
        usernamespace.enter_shared(spec)
        usernamespace.set_oom_score_adj(spec.process)
    if spec.namespaces.get("pid"):
        # Counts for children only.
        namespaces.join("pid", spec.namespaces["pid"])
    ours = _bear(namespaces.new_flags(spec.namespaces), cgroup, channel)
    init.main(spec, ours, cgroup, request.sent_ns)


def _exec(request: Exec, channel: Socket) -> NoReturn:
    target = setns.open_target(request)
    cgroup = open_cgroup(request.cgroup_path) if request.cgroup_path else None
    if "user" in request.namespaces:
        usernamespace.set_oom_score_adj(request.process)
    if "pid" in request.namespaces:
        sc.setns(target, sc.CLONE_NEWPID)
    ours = _bear(0, cgroup, channel)
    setns.main(request, target, ours, cgroup)


def _bear(flags: int, cgroup: Cgroup | None, channel: Socket) -> Socket:
    """Returns in the child, with its end of a new channel: of ``channel`` the cradle keeps a copy that execve in the
    child does not close.
    """
    flags |= sc.CLONE_PARENT
    born_in = cgroup.birth_fd() if cgroup is not None else -1
    try:
        pid = _clone(inplace.clone, flags, born_in)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        ours, theirs = handshake.pair()
        pid, _ = _clone(sc.clone3, flags, born_in)
        if pid:
            handshake.send(channel, Born(pid), (theirs.fileno(),))
            os._exit(0)
    else:
        ours, theirs = handshake.pair()
        handshake.send(channel, Born(pid), (theirs.fileno(),))
    theirs.close()
    return ours


def _clone(clone: Callable[..., T], flags: int, born_in: int) -> T:
    """``clone``; where there is a version 2 hierarchy the child is born in its cgroup, which saves a slow move."""
    if born_in >= 0:
        try:
            return clone(flags, cgroup_fd=born_in)
        except OSError as error:
            if error.errno not in _WITHOUT_BIRTH:
                raise
    return clone(flags)
