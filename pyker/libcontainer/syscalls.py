"""Thin wrappers over system calls that Python's os module does not have, each named as its man page.

Each raises OSError with errno, a message that begins with the call's name (``mount: Invalid argument``) and the path
it was given. Nothing here keeps state; file descriptors that are returned are close-on-exec and belong to the caller.
The functions are bound once, at import, so that a call costs about a microsecond.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_uint64, c_ulong, c_void_p

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_VM = 0x100
CLONE_FILES = 0x400
CLONE_PIDFD = 0x1000
CLONE_VFORK = 0x4000
CLONE_PARENT = 0x8000
CLONE_PARENT_SETTID = 0x100000
CLONE_INTO_CGROUP = 0x200000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
KEYCTL_DESCRIBE = 6

CLOSE_RANGE_CLOEXEC = 4

IN_ACCESS = 0x1
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_IGNORED = 0x8000
IN_CLOEXEC = os.O_CLOEXEC
IN_NONBLOCK = os.O_NONBLOCK

TMPFS_MAGIC = 0x01021994
DEVPTS_SUPER_MAGIC = 0x1CD1
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270
OVERLAYFS_SUPER_MAGIC = 0x794C7630
BTRFS_SUPER_MAGIC = 0x9123683E
NSFS_MAGIC = 0x6E736673

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
"""Leave speculation as it is: without it the kernel slows down every filtered process (before Linux 5.16)."""

_NR_PIDFD_SEND_SIGNAL = 424
_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_CLONE3 = 435
_NR_CLOSE_RANGE = 436
_NR_OPENAT2 = 437
_NR_PIDFD_GETFD = 438
_NR_MOUNT_SETATTR = 442
_NR = {
    "x86_64": {"clone": 56, "pivot_root": 155, "keyctl": 250, "seccomp": 317, "capget": 125, "capset": 126, "bpf": 321},
    "aarch64": {"clone": 220, "pivot_root": 41, "keyctl": 219, "seccomp": 277, "capget": 90, "capset": 91, "bpf": 280},
}.get(os.uname().machine, {})
"""Numbers that differ between architectures; those above are the same everywhere (since Linux 5.1)."""
_NR_CLONE = _NR.get("clone")
_SIGCHLD = 17

Path = str | bytes


class CloneArguments(ctypes.Structure):
    """struct clone_args of linux/sched.h."""

    _fields_ = [
        (name, c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


class _MountAttr(ctypes.Structure):
    _fields_ = [("attr_set", c_uint64), ("attr_clr", c_uint64), ("propagation", c_uint64), ("userns_fd", c_uint64)]


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", c_char_p)]


class _StatFs(ctypes.Structure):
    _fields_ = [("f_type", c_long), ("rest", c_long * 31)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc_holding_gil = ctypes.PyDLL(None, use_errno=True)


def _bind(name: str, *argtypes: object, gil: bool = False) -> ctypes._NamedFuncPointer:
    function = (_libc_holding_gil if gil else _libc)[name]
    function.argtypes = argtypes  # type: ignore[assignment]
    function.restype = c_long if name == "syscall" else c_int
    return function


_mount = _bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _bind("umount2", c_char_p, c_int)
_unshare = _bind("unshare", c_int)
_setns = _bind("setns", c_int, c_int)
_prctl = _bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_prctl_name = _bind("prctl", c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_sethostname = _bind("sethostname", c_char_p, c_size_t)
_setdomainname = _bind("setdomainname", c_char_p, c_size_t)
_inotify_init1 = _bind("inotify_init1", c_int)
_inotify_add_watch = _bind("inotify_add_watch", c_int, c_char_p, c_uint)
_inotify_rm_watch = _bind("inotify_rm_watch", c_int, c_int)
_renameat2 = _bind("renameat2", c_int, c_char_p, c_int, c_char_p, c_uint)
_fstatfs = _bind("fstatfs", c_int, c_void_p)
_syscall_2paths = _bind("syscall", c_long, c_char_p, c_char_p)
_syscall_clone3 = _bind("syscall", c_long, c_void_p, c_size_t, gil=True)
_syscall_clone = _bind("syscall", c_long, c_ulong, c_void_p, c_void_p, c_void_p, c_ulong, gil=True)
_syscall_openat2 = _bind("syscall", c_long, c_int, c_char_p, c_void_p, c_size_t)
_syscall_open_tree = _bind("syscall", c_long, c_int, c_char_p, c_uint)
_syscall_move_mount = _bind("syscall", c_long, c_int, c_char_p, c_int, c_char_p, c_uint)
_syscall_mount_setattr = _bind("syscall", c_long, c_int, c_char_p, c_uint, c_void_p, c_size_t)
_syscall_4ints = _bind("syscall", c_long, c_long, c_long, c_long, c_long)
_syscall_fsopen = _bind("syscall", c_long, c_char_p, c_uint)
_syscall_fsconfig = _bind("syscall", c_long, c_int, c_uint, c_char_p, c_char_p, c_int)
_syscall_3ints = _bind("syscall", c_long, c_long, c_long, c_long)
_syscall_keyctl = _bind("syscall", c_long, c_int, c_char_p, c_ulong, c_ulong, c_ulong)
_syscall_seccomp = _bind("syscall", c_long, c_uint, c_uint, c_void_p)
_syscall_capability = _bind("syscall", c_long, c_char_p, c_char_p)
_syscall_bpf = _bind("syscall", c_long, c_int, c_char_p, c_uint)
_byref = ctypes.byref
_get_errno = ctypes.get_errno


def _error(call: str, path: Path | None = None) -> OSError:
    number = _get_errno()
    return OSError(number, f"{call}: {os.strerror(number)}", path)


def _encode(path: Path) -> bytes:
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")


def _number(call: str) -> int:
    number = _NR.get(call)
    if number is None:
        raise OSError(errno.ENOSYS, f"{call}: no number known for {os.uname().machine}")
    return number


def call_of(error: OSError) -> str:
    """The name of the system call that ``error`` came from, or "" if it was raised elsewhere."""
    head, colon, _ = (error.strerror or "").partition(": ")
    return head if colon else ""


def mount(source: Path, target: Path, fstype: Path, flags: int = 0, data: Path = b"") -> None:
    """Mount a file system, or change a mount, as ``flags`` say. Source: mount(2)."""
    result = _mount(_encode(source), _encode(target), _encode(fstype), flags, _encode(data))
    if result < 0:
        raise _error("mount", target)


def umount2(target: Path, flags: int = 0) -> None:
    """Unmount what is mounted at ``target``. Source: umount2(2)."""
    if _umount2(_encode(target), flags) < 0:
        raise _error("umount2", target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Make ``new_root`` the root; both may be "." once the caller stands in the new root. Source: pivot_root(2)."""
    if _syscall_2paths(_number("pivot_root"), _encode(new_root), _encode(put_old)) < 0:
        raise _error("pivot_root", new_root)


def unshare(flags: int) -> None:
    """Leave the namespaces in ``flags`` for new ones; the whole process must be one thread. Source: unshare(2)."""
    if _unshare(flags) < 0:
        raise _error("unshare")


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace of ``fd``, or those in ``flags`` if ``fd`` is a pidfd (Linux 5.8). Source: setns(2)."""
    if _setns(fd, flags) < 0:
        raise _error("setns")


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Operate on the calling thread; returns what the option returns. Source: prctl(2)."""
    result = int(_prctl(option, arg2, arg3, arg4, arg5))
    if result < 0:
        raise _error("prctl")
    return result


def set_name(name: str) -> None:
    """Name the calling thread, cut at 15 bytes; ``ps -o comm`` shows it. Source: prctl(2) PR_SET_NAME."""
    if _prctl_name(PR_SET_NAME, _encode(name)[:15], 0, 0, 0) < 0:
        raise _error("prctl")


def set_title(title: str) -> None:
    """Name the calling process and overwrite the arguments that ``ps -f`` shows of it; children inherit both.

    The arguments are cut at the room that the real ones took. Done with plain files, which touch a tenth of the
    memory that ctypes does. Source: proc_pid_comm(5), proc_pid_mem(5), proc_pid_stat(5) arg_start.
    """
    set_raw_title(raw_title(title))


def raw_title(title: str) -> bytes:
    """``title`` cut and filled up to ``title_room``."""
    room = title_room()
    return title.encode()[: room - 1].ljust(room, b"\0")


def title_room() -> int:
    """How many bytes a raw title has: the same in all processes that were forked from one."""
    if not _argument_area:
        fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
        os.close(fd)
        _argument_area.extend((int(fields[45]), int(fields[46])))
    return _argument_area[1] - _argument_area[0]


def set_raw_title(raw: bytes) -> None:
    """``set_title`` with what ``raw_title`` returned, here or in a process of the same origin."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, raw)
    os.close(fd)
    fd = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    os.pwrite(fd, raw, _argument_area[0])
    os.close(fd)


_argument_area: list[int] = []


def close_all_but(kept: set[int]) -> None:
    """Close every descriptor below 1024 that is not ``kept``; -1 in it is none. Source: close_range(2)."""
    first = 0
    for fd in sorted(kept - {-1}):
        if first < fd:
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1024)


def sethostname(name: Path) -> None:
    """Set the host name of the caller's UTS namespace. Source: sethostname(2)."""
    raw = _encode(name)
    if _sethostname(raw, len(raw)) < 0:
        raise _error("sethostname", name)


def setdomainname(name: Path) -> None:
    """Set the NIS domain name of the caller's UTS namespace. Source: setdomainname(2)."""
    raw = _encode(name)
    if _setdomainname(raw, len(raw)) < 0:
        raise _error("setdomainname", name)


def clone3(flags: int, *, exit_signal: int = 17, cgroup_fd: int = -1) -> tuple[int, int]:
    """Fork with ``flags``; returns (pid, pidfd) in the parent and (0, -1) in the child.

    For a process of one thread only, and for a child that soon calls execve or _exit: Python's own at-fork handlers
    do not run. ``cgroup_fd`` is an open cgroup v2 folder to be born in. The pidfd belongs to the caller.
    Source: clone3(2), Linux 5.3; CLONE_INTO_CGROUP Linux 5.7.
    """
    pidfd = c_int(-1)
    if flags & CLONE_PARENT:
        # A sibling gets the caller's own exit signal; to name one is an error.
        exit_signal = 0
    args = CloneArguments(flags=flags | CLONE_PIDFD, pidfd=ctypes.addressof(pidfd), exit_signal=exit_signal)
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    pid = int(_syscall_clone3(_NR_CLONE3, _byref(args), 88))
    if pid < 0 and _get_errno() == errno.ENOSYS and cgroup_fd < 0:
        # Seccomp filters that cannot look into clone3's arguments refuse it so, to be asked by the older call.
        pid = int(_syscall_clone(_number("clone"), flags | CLONE_PIDFD | exit_signal, 0, args.pidfd, 0, 0))
    if pid < 0:
        raise _error("clone3")
    return (pid, pidfd.value) if pid else (0, -1)


def fork(flags: int = 0) -> int:
    """``clone3`` without a pidfd, and with next to no memory touched; returns the pid, 0 in the child.

    With CLONE_VFORK the caller goes on when the child has ended or called execve. Source: clone(2).
    """
    if _NR_CLONE is None:
        pid, pidfd = clone3(flags)
        if pid and not flags & CLONE_FILES:
            os.close(pidfd)
        return pid
    pid = int(_syscall_clone(_NR_CLONE, flags | _SIGCHLD, 0, 0, 0, 0))
    if pid < 0:
        raise _error("clone")
    return pid


def openat2(dir_fd: int, path: Path, flags: int, resolve: int = 0, mode: int = 0) -> int:
    """Open ``path`` below ``dir_fd`` under the rules of ``resolve``; O_CLOEXEC is added. Source: openat2(2), 5.6."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        fd = int(_syscall_openat2(_NR_OPENAT2, dir_fd, _encode(path), _byref(how), 24))
        if fd >= 0:
            return fd
        # EAGAIN: a rename or a mount raced with the lookup of ".."; openat2(2) says to try again.
        if _get_errno() != errno.EAGAIN:
            raise _error("openat2", path)


def open_tree(dir_fd: int, path: Path, flags: int) -> int:
    """A descriptor of a mount tree; with OPEN_TREE_CLONE a detached copy of it. O_CLOEXEC is added. Linux 5.2."""
    fd = int(_syscall_open_tree(_NR_OPEN_TREE, dir_fd, _encode(path), flags | OPEN_TREE_CLOEXEC))
    if fd < 0:
        raise _error("open_tree", path)
    return fd


def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int) -> None:
    """Attach a detached mount, or move an attached one. Source: move_mount(2), Linux 5.2."""
    result = _syscall_move_mount(_NR_MOVE_MOUNT, from_fd, _encode(from_path), to_fd, _encode(to_path), flags)
    if result < 0:
        raise _error("move_mount", to_path or f"/proc/self/fd/{to_fd}")


def mount_setattr(
    dir_fd: int,
    path: Path,
    flags: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change the attributes of a mount, with AT_RECURSIVE of all below it. Source: mount_setattr(2), Linux 5.12."""
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    if _syscall_mount_setattr(_NR_MOUNT_SETATTR, dir_fd, _encode(path), flags, _byref(attr), 32) < 0:
        raise _error("mount_setattr", path)


def fsopen(fstype: Path) -> int:
    """A context in which a file system is configured, close-on-exec. Source: fsopen(2), Linux 5.2."""
    fd = int(_syscall_fsopen(_NR_FSOPEN, _encode(fstype), FSOPEN_CLOEXEC))
    if fd < 0:
        raise _error("fsopen", fstype)
    return fd


def fsconfig(fd: int, command: int, key: Path | None = None, value: Path | None = None) -> None:
    """Set a parameter (a string shorter than 256 bytes), or create the file system. Source: fsconfig(2)."""
    raw_key = None if key is None else _encode(key)
    raw_value = None if value is None else _encode(value)
    if _syscall_fsconfig(_NR_FSCONFIG, fd, command, raw_key, raw_value, 0) < 0:
        raise _error("fsconfig", value if value is not None else key)


def fsmount(fd: int, attr_flags: int = 0) -> int:
    """A detached mount of the file system that was created in the context ``fd``. Source: fsmount(2)."""
    mount_fd = int(_syscall_3ints(_NR_FSMOUNT, fd, FSMOUNT_CLOEXEC, attr_flags))
    if mount_fd < 0:
        raise _error("fsmount")
    return mount_fd


def pidfd_open(pid: int, flags: int = 0) -> int:
    """A descriptor that stands for a process; poll finds it readable when the process ended. Source: pidfd_open(2)."""
    return os.pidfd_open(pid, flags)


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Send a signal to the process of ``pidfd``. Raises ProcessLookupError if it is gone. pidfd_send_signal(2)."""
    if _syscall_4ints(_NR_PIDFD_SEND_SIGNAL, pidfd, signum, 0, 0) < 0:
        raise _error("pidfd_send_signal")


def pidfd_getfd(pidfd: int, target_fd: int) -> int:
    """A duplicate of another process's descriptor. Source: pidfd_getfd(2), Linux 5.6."""
    fd = int(_syscall_3ints(_NR_PIDFD_GETFD, pidfd, target_fd, 0))
    if fd < 0:
        raise _error("pidfd_getfd")
    return fd


def close_range(first: int, last: int = 0x7FFFFFFF, flags: int = 0) -> None:
    """Close the descriptors from ``first`` to ``last``, or mark them CLOSE_RANGE_CLOEXEC. close_range(2), 5.9."""
    if _syscall_3ints(_NR_CLOSE_RANGE, first, last, flags) < 0:
        raise _error("close_range")


def renameat2(old_dir_fd: int, old: Path, new_dir_fd: int, new: Path, flags: int) -> None:
    """Rename with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT. Source: renameat2(2)."""
    if _renameat2(old_dir_fd, _encode(old), new_dir_fd, _encode(new), flags) < 0:
        raise _error("renameat2", new)


def fstatfs_type(fd: int) -> int:
    """The magic number of the file system that ``fd`` is on. Source: fstatfs(2)."""
    buffer = _StatFs()
    if _fstatfs(fd, _byref(buffer)) < 0:
        raise _error("fstatfs")
    return int(buffer.f_type) & 0xFFFFFFFF


def keyctl(operation: int, arg2: Path | None = None, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Operate on the kernel's keyrings. Source: keyctl(2)."""
    raw = None if arg2 is None else _encode(arg2)
    result = int(_syscall_keyctl(_number("keyctl"), operation, raw, arg3, arg4, arg5))
    if result < 0:
        raise _error("keyctl", arg2)
    return result


def seccomp(operation: int, flags: int, args: c_void_p | ctypes._CArgObject) -> None:
    """Operate on the secure-computing state of the caller. Source: seccomp(2)."""
    if _syscall_seccomp(_number("seccomp"), operation, flags, args) < 0:
        raise _error("seccomp")


_CAPABILITY_VERSION_3 = 0x20080522


def capget() -> tuple[int, int, int]:
    """The calling thread's (effective, permitted, inheritable) sets as bit masks. Source: capget(2)."""
    data = ctypes.create_string_buffer(24)
    if _syscall_capability(_number("capget"), struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data) < 0:
        raise _error("capget")
    low_and_high = struct.unpack("=6I", data.raw)
    effective, permitted, inheritable = (low_and_high[i] | low_and_high[i + 3] << 32 for i in range(3))
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's sets, given as bit masks. Source: capset(2)."""
    sets = (effective, permitted, inheritable)
    data = struct.pack("=6I", *(mask & 0xFFFFFFFF for mask in sets), *(mask >> 32 for mask in sets))
    if _syscall_capability(_number("capset"), struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data) < 0:
        raise _error("capset")


def bpf(command: int, attributes: bytearray) -> int:
    """Run a BPF ``command``; the kernel may write its answer into ``attributes``. Source: bpf(2)."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result = int(_syscall_bpf(_number("bpf"), command, ctypes.cast(buffer, c_char_p), len(attributes)))
    if result < 0:
        raise _error("bpf")
    return result


def load_filter(program: bytes) -> None:
    """Put a compiled seccomp filter on the caller, for good. Source: seccomp(2) SECCOMP_SET_MODE_FILTER."""
    value = _SockFprog(len(program) // 8, program)
    seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, _byref(value))


def inotify_init1(flags: int = IN_CLOEXEC) -> int:
    """A new inotify instance. Source: inotify_init1(2)."""
    fd = int(_inotify_init1(flags | IN_CLOEXEC))
    if fd < 0:
        raise _error("inotify_init1")
    return fd


def inotify_add_watch(fd: int, path: Path, mask: int) -> int:
    """Watch ``path``; returns the watch's number. Source: inotify_add_watch(2)."""
    watch = int(_inotify_add_watch(fd, _encode(path), mask))
    if watch < 0:
        raise _error("inotify_add_watch", path)
    return watch


def inotify_rm_watch(fd: int, watch: int) -> None:
    """Stop watching. Source: inotify_rm_watch(2)."""
    if _inotify_rm_watch(fd, watch) < 0:
        raise _error("inotify_rm_watch")


def remove_tree(path: Path, *, dir_fd: int | None = None) -> None:
    """Remove a folder and all below it; never follows a symlink and never crosses a mount.

    Raises OSError EXDEV at the first mount point found (what lies beside it may be gone by then), FileNotFoundError
    if ``path`` does not exist. Folders without permission bits are no obstacle for root. Source: openat2(2)
    RESOLVE_NO_XDEV, which unlike st_dev also sees bind mounts of the same file system.
    """
    parent = AT_FDCWD if dir_fd is None else dir_fd
    head, _, name = _encode(path).rstrip(b"/").rpartition(b"/")
    flags = os.O_PATH | os.O_DIRECTORY
    anchor = openat2(parent, head or (b"/" if _encode(path).startswith(b"/") else b"."), flags)
    try:
        _remove_entry(anchor, name)
    finally:
        os.close(anchor)


def _remove_entry(dir_fd: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
        return
    except IsADirectoryError:
        pass
    # A chain of folders may be deeper than there are descriptors: only the lowest is open, ".." leads back up.
    fd = _open_below(dir_fd, name)
    path: list[tuple[bytes, list[bytes]]] = [(name, _names(fd))]
    try:
        while True:
            below = path[-1][1]
            if below:
                child = below.pop()
                try:
                    os.unlink(child, dir_fd=fd)
                except IsADirectoryError:
                    lower = _open_below(fd, child)
                    os.close(fd)
                    fd = lower
                    path.append((child, _names(fd)))
                continue
            done, _ = path.pop()
            if not path:
                break
            upper = openat2(fd, b"..", os.O_RDONLY | os.O_DIRECTORY, RESOLVE_NO_XDEV)
            os.close(fd)
            fd = upper
            os.rmdir(done, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _open_below(dir_fd: int, name: bytes) -> int:
    resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
    return openat2(dir_fd, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, resolve)


def _names(fd: int) -> list[bytes]:
    # Names first, removal after: an entry removed while the folder is being read may hide another one.
    with os.scandir(fd) as entries:
        return [os.fsencode(entry.name) for entry in entries]
