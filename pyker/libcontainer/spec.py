"""What libcontainer is asked to run: plain values that cross to the launcher over a socket.

The shapes follow the OCI runtime spec in meaning; names that the field spells differently follow the kernel.
"""

from __future__ import annotations

from msgspec import Struct, field

from pyker.types.mount import Mount


class IdMapping(Struct, frozen=True):
    """One line of uid_map or gid_map. Source: user_namespaces(7)."""

    inside: int
    outside: int
    size: int


class Rlimit(Struct, frozen=True):
    """``name`` without RLIMIT_, lower case (``nofile``); -1 means unlimited. Source: getrlimit(2)."""

    name: str
    soft: int
    hard: int


class DeviceNode(Struct, frozen=True):
    """A device node to make in the container. ``kind`` is "c" or "b"; ``mode`` has the permission bits only."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


class DeviceRule(Struct, frozen=True):
    """One rule of the device cgroup; -1 is a wildcard; ``kind`` is "a", "c" or "b"; ``access`` is of "rwm"."""

    allow: bool
    kind: str = "a"
    major: int = -1
    minor: int = -1
    access: str = "rwm"


class Throttle(Struct, frozen=True):
    """``rate`` in bytes or operations a second on device major:minor."""

    major: int
    minor: int
    rate: int


class Weight(Struct, frozen=True):
    """I/O weight, 10 to 1000, of device major:minor."""

    major: int
    minor: int
    weight: int


class Resources(Struct, frozen=True, kw_only=True):
    """Limits. 0 or None means not given; bytes and microseconds; -1 means unlimited where the kernel allows it."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    memory_reservation_bytes: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int = 0
    cpu_quota_us: int = 0
    cpu_period_us: int = 0
    cpu_realtime_runtime_us: int = 0
    cpu_realtime_period_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    blkio_weight: int = 0
    blkio_weight_device: tuple[Weight, ...] = ()
    read_bps: tuple[Throttle, ...] = ()
    write_bps: tuple[Throttle, ...] = ()
    read_iops: tuple[Throttle, ...] = ()
    write_iops: tuple[Throttle, ...] = ()
    devices: tuple[DeviceRule, ...] = ()


class Capabilities(Struct, frozen=True, kw_only=True):
    """Sets of capability names, each with CAP_ and in upper case. Source: capabilities(7)."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class ProcessSpec(Struct, frozen=True, kw_only=True):
    """A process to run in a container: its init, or an exec.

    ``user`` is ``name|uid[:group|gid]``, resolved in the container's own /etc/passwd and /etc/group. ``env`` gets HOME
    from there unless it has one. ``seccomp`` is a compiled BPF program, empty for none. ``console_size`` is
    (height, width), (0, 0) for the kernel's default.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    tty: bool = False
    console_size: tuple[int, int] = (0, 0)
    open_stdin: bool = False
    stdin_once: bool = False
    capabilities: Capabilities = Capabilities()
    no_new_privileges: bool = False
    seccomp: bytes = b""
    apparmor_profile: str = ""
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    umask: int = 0o022


class LogSpec(Struct, frozen=True, kw_only=True):
    """Where the monitor writes what the container says. ``driver`` is json-file or none.

    A file is rotated past ``max_size_bytes`` (-1: never); ``max_files`` counts the current one too. ``attributes``
    go into each line's ``attrs``.
    """

    driver: str = "json-file"
    path: str = ""
    max_size_bytes: int = -1
    max_files: int = 1
    compress: bool = False
    attributes: dict[str, str] = field(default_factory=dict)


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """Everything that the launcher, the monitor and init need to run one container.

    ``namespaces`` maps mnt, uts, ipc, pid, net, cgroup, user to "" (make a new one) or to a path to join
    (``/proc/<pid>/ns/ipc`` or a pinned file); a missing key means: stay in the host's. ``rootfs`` has target "/".
    ``mounts`` are performed in order, below it. ``state_dir`` is where the monitor keeps its socket and the exit
    record; it exists and belongs to this container alone. ``cgroup_path`` is relative, such as ``/docker/<id>``.
    ``disposable``: what it is mounted from will not be used again, so that nobody need wait for its unmounting.
    """

    id: str
    state_dir: str
    rootfs: Mount
    mounts: tuple[Mount, ...]
    process: ProcessSpec
    namespaces: dict[str, str]
    hostname: str = ""
    domainname: str = ""
    readonly_rootfs: bool = False
    rootfs_propagation: str = "rprivate"
    devices: tuple[DeviceNode, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    cgroup_path: str = ""
    resources: Resources = Resources()
    log: LogSpec = LogSpec()
    stop_signal: int = 15
    disposable: bool = False


class ExitRecord(Struct, frozen=True, kw_only=True):
    """How a process ended. ``exit_code`` is 128 + n for signal n. ``ended_ns`` is nanoseconds since 1970, UTC."""

    exit_code: int
    signal: int = 0
    oom_killed: bool = False
    ended_ns: int = 0
