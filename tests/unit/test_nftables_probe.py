"""Where the kernel lacks netfilter, nftables is refused in words; the library would end the process."""

from __future__ import annotations

import errno
import socket

import pytest

from pyker.errors import NotSupported
from pyker.libcontainer.nftables import Nftables


@pytest.mark.requires("nftables")
def test_a_kernel_without_netfilter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(NotSupported, match="no netfilter over netlink") as caught:
        Nftables()
    assert "--iptables=false" in caught.value.hint
