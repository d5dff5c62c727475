"""Limits and devices: from HostConfig to the cgroup's and /dev's."""

from __future__ import annotations

from collections.abc import Iterable

from pyker.container.record import Container
from pyker.errors import NotFound, NotSupported, SystemFailure
from pyker.libcontainer import devices
from pyker.libcontainer.cgroups.support import Support, supported
from pyker.libcontainer.spec import DeviceNode, DeviceRule, Resources, Throttle, Weight
from pyker.types.config import HostConfig, ThrottleDevice, WeightDevice

CPU_PERIOD_US = 100_000
"""The period that ``--cpus`` is a share of."""


def build(container: Container) -> tuple[Resources, tuple[DeviceNode, ...], tuple[str, ...]]:
    """(limits, device nodes to make, warnings). A limit that this kernel cannot enforce is left out with a warning.

    Raises: SystemFailure or InvalidParameter for a device that is not there, NotSupported for a GPU request.
    """
    host = container.host_config
    if host.device_requests:
        first = host.device_requests[0]
        raise NotSupported(
            f'could not select device driver "{first.get("Driver") or ""}" with capabilities: '
            f"{_go_list(first.get('Capabilities'))}"
        )
    nodes, rules = _devices(host)
    return resources(host, rules), nodes, ()


def _go_list(value: object) -> str:
    return f"[{' '.join(_go_list(item) for item in value)}]" if isinstance(value, list) else str(value or "[]")


def resources(host: HostConfig, rules: tuple[DeviceRule, ...] = (), can: Support | None = None) -> Resources:
    """The limits of ``host`` that this kernel has; ``update`` uses it too. Raises: NotFound, InvalidParameter."""
    can = can or supported()
    quota, period = host.cpu_quota, host.cpu_period
    if host.nano_cpus:
        period = CPU_PERIOD_US
        quota = max(host.nano_cpus * CPU_PERIOD_US // 1_000_000_000, 1000)
    memory = host.memory if can.memory else 0
    swap = host.memory_swap
    if memory > 0 and swap == 0:
        swap = memory * 2
    return Resources(
        memory_bytes=memory,
        memory_swap_bytes=swap if can.swap and memory else 0,
        memory_reservation_bytes=host.memory_reservation if can.memory_reservation else 0,
        memory_swappiness=host.memory_swappiness
        if can.memory_swappiness and host.memory_swappiness not in (None, -1)
        else None,
        oom_kill_disable=bool(host.oom_kill_disable) and can.oom_kill_disable,
        cpu_shares=host.cpu_shares if can.cpu_shares else 0,
        cpu_quota_us=quota if can.cpu_cfs else 0,
        cpu_period_us=period if can.cpu_cfs else 0,
        cpu_realtime_runtime_us=host.cpu_realtime_runtime if can.cpu_realtime else 0,
        cpu_realtime_period_us=host.cpu_realtime_period if can.cpu_realtime else 0,
        cpuset_cpus=host.cpuset_cpus if can.cpuset else "",
        cpuset_mems=host.cpuset_mems if can.cpuset else "",
        pids_limit=host.pids_limit if can.pids and host.pids_limit else 0,
        blkio_weight=host.blkio_weight if can.blkio_weight else 0,
        blkio_weight_device=_weights(host.blkio_weight_device) if can.blkio_weight_device else (),
        read_bps=_throttles(host.blkio_device_read_bps) if can.blkio_throttle else (),
        write_bps=_throttles(host.blkio_device_write_bps) if can.blkio_throttle else (),
        read_iops=_throttles(host.blkio_device_read_iops) if can.blkio_throttle else (),
        write_iops=_throttles(host.blkio_device_write_iops) if can.blkio_throttle else (),
        devices=rules if can.devices else (),
    )


def _weights(wanted: Iterable[WeightDevice] | None) -> tuple[Weight, ...]:
    found = []
    for item in wanted or ():
        major, minor = devices.number_of(item.path)
        found.append(Weight(major=major, minor=minor, weight=item.weight))
    return tuple(found)


def _throttles(wanted: Iterable[ThrottleDevice] | None) -> tuple[Throttle, ...]:
    found = []
    for item in wanted or ():
        major, minor = devices.number_of(item.path)
        found.append(Throttle(major=major, minor=minor, rate=item.rate))
    return tuple(found)


def _devices(host: HostConfig) -> tuple[tuple[DeviceNode, ...], tuple[DeviceRule, ...]]:
    """A privileged container has every device and no rules; others the usual ones and what the user names."""
    nodes = {node.path: node for node in devices.DEFAULT_NODES}
    rules = list(devices.DEFAULT_RULES)
    if host.privileged:
        nodes |= {node.path: node for node in devices.host_nodes() if node.path not in nodes}
        rules = []
    for mapping in host.devices or ():
        try:
            wanted, allowed = devices.requested(
                mapping.path_on_host, mapping.path_in_container, mapping.cgroup_permissions
            )
        except NotFound as error:
            # To a client, 404 is a container that is not there.
            raise SystemFailure(error.message, hint=error.hint) from error
        nodes |= {node.path: node for node in wanted}
        if not host.privileged:
            rules += allowed
    if not host.privileged:
        rules += [devices.parse_rule(text) for text in host.device_cgroup_rules or ()]
    return tuple(nodes.values()), tuple(rules)
