"""Ports as users write them."""

from __future__ import annotations

import pytest

from pyker.errors import InvalidParameter
from pyker.networkdriver.ports import ephemeral_range, parse_host_port, parse_port


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("80/tcp", (80, "tcp")), ("53/UDP", (53, "udp")), ("8080", (8080, "tcp")), ("1/sctp", (1, "sctp"))],
)
def test_container_ports(text: str, parsed: tuple[int, str]) -> None:
    assert parse_port(text) == parsed


@pytest.mark.parametrize("text", ["", "0/tcp", "65536", "80/icmp", "x/tcp", "-1/tcp", "80 /tcp", "٨٠/tcp"])
def test_impossible_container_ports(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_port(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [("", range(0)), ("0", range(0)), ("8000", range(8000, 8001)), ("8000-8010", range(8000, 8011))],
)
def test_host_ports(text: str, ports: range) -> None:
    assert parse_host_port(text) == ports


@pytest.mark.parametrize("text", ["x", "8010-8000", "0-5", "65536", "80-", "-80", "80;flush"])
def test_impossible_host_ports(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_host_port(text)


def test_the_ephemeral_range_is_the_kernels() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as stream:
        first, last = stream.read().split()
    assert (str(ephemeral_range()[0]), str(ephemeral_range()[-1])) == (first, last)
