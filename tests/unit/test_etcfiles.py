"""What a container reads in /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyker.errors import InvalidParameter
from pyker.networkdriver import etcfiles
from pyker.networkdriver.etcfiles import hosts_file, resolv_conf, split_extra_host

STANDARD = (
    b"127.0.0.1\tlocalhost\n"
    b"::1\tlocalhost ip6-localhost ip6-loopback\n"
    b"fe00::0\tip6-localnet\n"
    b"ff00::0\tip6-mcastprefix\n"
    b"ff02::1\tip6-allnodes\n"
    b"ff02::2\tip6-allrouters\n"
)


def test_hosts_is_the_recorded_one() -> None:
    assert hosts_file(hostname="30ae5078684d", addresses=["10.99.0.3"]) == STANDARD + b"10.99.0.3\t30ae5078684d\n"


def test_a_container_without_addresses_has_only_the_standard_lines() -> None:
    assert hosts_file(hostname="30ae5078684d") == STANDARD


def test_a_domain_gives_two_names() -> None:
    assert hosts_file(hostname="w", domainname="x.org", addresses=["10.1.1.2"]).endswith(b"10.1.1.2\tw.x.org w\n")


def test_added_hosts_links_and_host_gateway() -> None:
    content = hosts_file(
        hostname="w",
        addresses=["172.17.0.2"],
        extra_hosts=["db:10.0.0.5", "v6:::1", "gw=host-gateway", "six=[fd00::1]"],
        host_gateway="172.17.0.1",
        links=[("172.17.0.9", ["db2", "db2", "abc"])],
    )
    assert content[len(STANDARD) :] == (
        b"10.0.0.5\tdb\n::1\tv6\n172.17.0.1\tgw\nfd00::1\tsix\n172.17.0.9\tdb2 abc\n172.17.0.2\tw\n"
    )


def test_on_the_hosts_network_it_is_the_hosts_file_with_additions() -> None:
    assert hosts_file(origin=b"1.2.3.4 me", extra_hosts=["a:1.1.1.1"]) == b"1.2.3.4 me\n1.1.1.1\ta\n"


@pytest.mark.parametrize(
    "entry", ["", "name", ":1.2.3.4", "name:", "name:notanip", "two\nlines:1.2.3.4", "a b:1.2.3.4"]
)
def test_bad_entries_are_refused(entry: str) -> None:
    with pytest.raises(InvalidParameter):
        split_extra_host(entry)


def test_a_host_gateway_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="host-gateway"):
        hosts_file(extra_hosts=["x:host-gateway"])


def test_loopback_and_ipv6_name_servers_are_left_out() -> None:
    host = b"# written by x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 9.9.9.9\nsearch corp.example\n"
    assert resolv_conf(host) == b"# written by x\nsearch corp.example\nnameserver 9.9.9.9\n"


@pytest.mark.parametrize("host", [b"", b"nameserver 127.0.0.1\n", b"nameserver fe80::1%eth0\n"])
def test_without_a_usable_server_the_public_ones_are_taken(host: bytes) -> None:
    assert resolv_conf(host).splitlines() == [b"nameserver 8.8.8.8", b"nameserver 8.8.4.4"]


def test_what_the_user_says_replaces_what_the_host_says() -> None:
    host = b"nameserver 9.9.9.9\nsearch corp.example\noptions ndots:2\n"
    content = resolv_conf(host, nameservers=["1.1.1.1"], search=["a.b", "c.d"], options=["ndots:1", "rotate"])
    assert content == b"search a.b c.d\nnameserver 1.1.1.1\noptions ndots:1 rotate\n"
    assert b"search" not in resolv_conf(host, search=["."])
    assert resolv_conf(host, nameservers=["1.1.1.1"]) == b"search corp.example\noptions ndots:2\nnameserver 1.1.1.1\n"


def test_on_the_hosts_network_the_hosts_file_stays_as_it_is() -> None:
    host = b"nameserver 127.0.0.53\nsearch x"
    assert resolv_conf(host, keep_loopback=True) == host
    assert b"nameserver 127.0.0.53" in resolv_conf(host, search=["y"], keep_loopback=True)


def test_a_resolver_of_its_own_takes_the_servers_place() -> None:
    host = b"# written by x\nnameserver 9.9.9.9\nnameserver 127.0.0.53\nsearch corp.example\noptions edns0 timeout:1\n"
    assert resolv_conf(host, resolver="127.0.0.11") == (
        b"# written by x\nsearch corp.example\nnameserver 127.0.0.11\noptions edns0 timeout:1 ndots:0\n"
    )
    chosen = resolv_conf(
        host, nameservers=["1.2.3.4"], search=["a.test"], options=["timeout:3", "ndots:2"], resolver="127.0.0.11"
    )
    assert chosen == (b"# written by x\nsearch a.test\nnameserver 127.0.0.11\noptions timeout:3 ndots:2\n")
    assert resolv_conf(b"", resolver="127.0.0.11") == b"nameserver 127.0.0.11\noptions ndots:0\n"


def test_the_hosts_servers_are_read_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    monkeypatch.setattr(etcfiles, "RESOLV_CONF", str(file))
    servers = etcfiles.HostServers()
    assert servers() == ()
    file.write_text("nameserver 10.0.0.1\nsearch x\nnameserver\nnameserver fd00::1\n")
    assert servers() == ("10.0.0.1", "fd00::1")
    file.with_suffix(".new").write_text("nameserver 10.0.0.2\n")
    file.with_suffix(".new").rename(file)
    assert servers() == ("10.0.0.2",)
