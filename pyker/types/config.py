"""A container's configuration, in the shape that API bodies, ``config.v2.json`` and ``hostconfig.json`` share.

Field names are snake case here and the reference's on the wire (``cpu_shares`` is ``CpuShares``). A zero value means
"not given", as in Go. Source: Docker API v1.45 POST /containers/create.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class Wire(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of the values that travel as JSON objects with Go's field names."""


class HealthConfig(Wire, frozen=True, omit_defaults=True):
    """``HEALTHCHECK``. Durations are nanoseconds; zero means inherit."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


class ContainerConfig(Wire, frozen=True):
    """What is portable: it can come from an image and be committed to one."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, str]] | UnsetType = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthConfig | UnsetType | None = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: int | UnsetType | None = UNSET
    shell: tuple[str, ...] | UnsetType | None = UNSET


class LogConfig(Wire, frozen=True):
    """``type`` is a log driver's name, empty for the daemon's default."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Wire, frozen=True):
    """``name`` is one of "", no, always, unless-stopped, on-failure."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(Wire, frozen=True):
    """Where a container's port is published on the host; empty ``host_port`` means any free one."""

    host_ip: str = ""
    host_port: str = ""


class Ulimit(Wire, frozen=True):
    """A resource limit, such as nofile; -1 means unlimited."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class DeviceMapping(Wire, frozen=True):
    """``--device host:container:rwm``."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class ThrottleDevice(Wire, frozen=True):
    """``rate`` is in bytes or operations a second, by the list that holds it."""

    path: str = ""
    rate: int = 0


class WeightDevice(Wire, frozen=True):
    """``weight`` is 10 to 1000."""

    path: str = ""
    weight: int = 0


class BindOptions(Wire, frozen=True, omit_defaults=True):
    """Options of ``--mount type=bind``."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class VolumeOptions(Wire, frozen=True, omit_defaults=True):
    """Options of ``--mount type=volume``."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: dict[str, object] | None = None
    subpath: str = ""


class TmpfsOptions(Wire, frozen=True, omit_defaults=True):
    """Options of ``--mount type=tmpfs``; ``size_bytes`` 0 means unlimited."""

    size_bytes: int = 0
    mode: int = 0


class MountRequest(Wire, frozen=True, omit_defaults=True):
    """One ``--mount``. ``type`` is bind, volume or tmpfs."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(Wire, frozen=True):
    """What belongs to this host. Source: Docker API v1.45 HostConfig."""

    binds: tuple[str, ...] | None = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] | None = None
    console_size: tuple[int, int] = (0, 0)
    annotations: dict[str, str] | UnsetType | None = UNSET
    cap_add: tuple[str, ...] | None = None
    cap_drop: tuple[str, ...] | None = None
    cgroupns_mode: str = ""
    dns: tuple[str, ...] | None = None
    dns_options: tuple[str, ...] | None = None
    dns_search: tuple[str, ...] | None = None
    extra_hosts: tuple[str, ...] | None = None
    group_add: tuple[str, ...] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] | None = None
    storage_opt: dict[str, str] | UnsetType | None = UNSET
    tmpfs: dict[str, str] | UnsetType | None = UNSET
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType | None = UNSET
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] | None = None
    blkio_device_read_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_write_bps: tuple[ThrottleDevice, ...] | None = None
    blkio_device_read_iops: tuple[ThrottleDevice, ...] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: tuple[ThrottleDevice, ...] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[DeviceMapping, ...] | None = None
    device_cgroup_rules: tuple[str, ...] | None = None
    device_requests: tuple[dict[str, object], ...] | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = field(default=0, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")
    mounts: tuple[MountRequest, ...] | UnsetType | None = UNSET
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    init: bool | UnsetType | None = UNSET


class EndpointIpamConfig(Wire, frozen=True, omit_defaults=True):
    """Fixed addresses that the user asked for."""

    ipv4_address: str = field(default="", name="IPv4Address")
    ipv6_address: str = field(default="", name="IPv6Address")
    link_local_ips: tuple[str, ...] | None = field(default=None, name="LinkLocalIPs")


class EndpointSettings(Wire, frozen=True):
    """A container's place on one network: what was asked for, and, once running, what it got."""

    ipam_config: EndpointIpamConfig | None = field(default=None, name="IPAMConfig")
    links: tuple[str, ...] | None = None
    aliases: tuple[str, ...] | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    mac_address: str = ""
    dns_names: tuple[str, ...] | None = field(default=None, name="DNSNames")


class NetworkingConfig(Wire, frozen=True):
    """Networks to join at create, by name or ID."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None
