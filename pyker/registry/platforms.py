"""Which image of an index suits a machine.

Source: OCI image-spec image-index.md#image-index-property-descriptions; Go's GOARCH, GOARM and GOAMD64.
"""

from __future__ import annotations

import os

from pyker.errors import InvalidParameter, NotFound
from pyker.registry.manifests import Descriptor, Index, Platform

_MACHINES = {
    "x86_64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "mips64": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_ARM = ("v8", "v7", "v6", "v5")


def host_platform() -> Platform:
    """This machine's. Source: uname(2)."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture=architecture, variant=variant)


def parse_platform(text: str) -> Platform:
    """``linux/arm/v7``, ``arm64``, ``linux``. Raises InvalidParameter."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise _bad(text)
    system = "linux"
    if parts[0] in ("linux", "windows", "darwin", "freebsd"):
        system = parts.pop(0)
    if not parts:
        host = host_platform()
        return Platform(os=system, architecture=host.architecture, variant=host.variant)
    architecture, variant = _ALIASES.get(parts[0], (parts[0], ""))
    if len(parts) > 1:
        variant = parts[1]
    if architecture == "arm" and not variant:
        variant = "v7"
    if len(parts) > 2:
        raise _bad(text)
    return Platform(os=system, architecture=architecture, variant=variant)


def _bad(text: str) -> InvalidParameter:
    hint = "it is written os/architecture[/variant]"
    return InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument', hint=hint)


def candidates(wanted: Platform) -> tuple[tuple[str, str], ...]:
    """The (architecture, variant) pairs that run where ``wanted`` runs, best first."""
    architecture, variant = wanted.architecture, wanted.variant
    match architecture:
        case "amd64":
            level = int(variant[1:]) if variant[:1] == "v" and variant[1:].isdigit() else 1
            levels = [("amd64", f"v{number}") for number in range(min(level, 9), 1, -1)]
            return (*levels, ("amd64", ""), ("386", ""))
        case "arm64":
            return (("arm64", ""), *(("arm", older) for older in _ARM))
        case "arm":
            start = _ARM.index(variant) if variant in _ARM else _ARM.index("v7")
            return tuple(("arm", older) for older in _ARM[start:])
        case _:
            return ((architecture, variant), (architecture, "")) if variant else ((architecture, ""),)


def suits(actual: Platform, wanted: Platform) -> bool:
    """True if an image made for ``actual`` runs where ``wanted`` does."""
    system, *pair = _normal(actual)
    return system == wanted.os and tuple(pair) in candidates(wanted)


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The entry that suits ``wanted`` best.

    Raises NotFound with the reference engine's words if there is none.
    """
    images = [item for item in index.manifests if _is_image(item)]
    for pair in candidates(wanted):
        for item in images:
            if item.platform is None or _normal(item.platform) != (wanted.os, *pair):
                continue
            return item
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    raise NotFound(
        f"no matching manifest for {wanted} in the manifest list entries",
        hint="the image is not made for this machine: --platform chooses another one",
    )


def _is_image(item: Descriptor) -> bool:
    if item.attestation:
        return False
    return item.platform is None or item.platform.os != "unknown"


def _normal(platform: Platform) -> tuple[str, str, str]:
    """With the variants that are the same as none left out."""
    architecture, variant = _ALIASES.get(platform.architecture, (platform.architecture, ""))
    variant = platform.variant or variant
    if (architecture, variant) in (("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")):
        variant = ""
    if architecture == "arm":
        variant = f"v{variant}" if variant.isdigit() else (variant or "v7")
    return platform.os or "linux", architecture, variant
