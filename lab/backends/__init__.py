"""Who provides the machines: QEMU directly, Vagrant, or this host itself."""

from __future__ import annotations

from typing import Literal, get_args

Backend = Literal["qemu", "vagrant", "local"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
