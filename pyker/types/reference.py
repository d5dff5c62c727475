"""Image references: the grammar that names an image in a registry.

``[domain[:port]/]path[:tag][@digest]``. What the user types is the familiar form (``busybox``); what the engine stores
is the normal form (``docker.io/library/busybox:latest``). Pure: no I/O, standard library only.

Source: distribution reference grammar; Docker API v1.45 POST /images/create.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pyker.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
EMBEDDED_DOMAIN = "pyker.local"
"""The domain of the registry inside the engine; no name of the Internet ends in ``.local``."""

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_NAME_MAX = 255

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PATH_PART}(?:/{_PATH_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"({_DOMAIN})/({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?")
_TAG_ONLY = re.compile(_TAG)
_HEX64 = re.compile(r"[0-9a-f]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_LOWER_HEX = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference: the domain is always there, ``tag`` and ``digest`` may be empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Domain and path: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as a user types it: ``busybox``. It is the whole name where the short one would mean another."""
        first, slash, rest = self.path.partition("/")
        if self.domain != DEFAULT_DOMAIN or (slash and is_domain(first)):
            return self.name
        return rest if first + slash == _OFFICIAL and "/" not in rest else self.path

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """As a user types it, with tag and digest as far as they are there: ``busybox:1``."""
        return self.familiar_name + self._suffix

    @property
    def canonical(self) -> str:
        """The normal form, with tag and digest as far as they are there: ``docker.io/library/busybox:1``."""
        return self.name + self._suffix

    @property
    def name_only(self) -> bool:
        """True if neither a tag nor a digest is there."""
        return not self.tag and not self.digest

    def __str__(self) -> str:
        return self.canonical

    def trimmed(self) -> Reference:
        """The same repository without tag and digest."""
        return Reference(self.domain, self.path)

    def with_tag(self, tag: str) -> Reference:
        """The same with ``tag``; a digest stays. Raises InvalidParameter ``invalid tag format``."""
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidParameter(
                "invalid tag format", hint="a tag has letters, digits, '_', '.' and '-', at most 128"
            )
        return replace(self, tag=tag)

    def with_digest(self, digest: str) -> Reference:
        """The same with ``digest``; a tag stays. Raises InvalidParameter unless it is a digest."""
        check_digest(digest)
        return replace(self, digest=digest)

    def default_tag(self) -> Reference:
        """The same, with the tag ``latest`` if neither a tag nor a digest is there."""
        return replace(self, tag=DEFAULT_TAG) if self.name_only else self


def check_digest(text: str) -> None:
    """Raise InvalidParameter unless ``text`` is ``algorithm:hex`` of an algorithm that registries use.

    Source: OCI image-spec descriptor.md#digests.
    """
    algorithm, colon, encoded = text.partition(":")
    if not colon or not re.fullmatch(_DIGEST, text):
        length = _DIGEST_LENGTHS.get(algorithm)
        if colon and length is not None and _LOWER_HEX.fullmatch(encoded) and len(encoded) != length:
            raise InvalidParameter("invalid checksum digest length")
        raise InvalidParameter("invalid checksum digest format")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != length:
        raise InvalidParameter("invalid checksum digest length")
    if not _LOWER_HEX.fullmatch(encoded):
        raise InvalidParameter("invalid checksum digest format")


def is_digest(text: str) -> bool:
    """True if ``text`` is a digest such as ``sha256:`` and 64 hex digits."""
    try:
        check_digest(text)
    except InvalidParameter:
        return False
    return True


def parse(text: str) -> Reference:
    """Read what a user typed, or what an API body names.

    Adds ``docker.io`` and ``library/`` where they are left out, but no tag: see ``default_tag``. A name of 64 hex
    digits is refused, because it could be an image's ID.

    Raises:
        InvalidParameter: with the reference engine's words, such as ``invalid reference format``.
    """
    if _HEX64.fullmatch(text):
        raise InvalidParameter(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.partition(":")[0]
    if repository.lower() != repository:
        raise InvalidParameter(f"invalid reference format: repository name ({repository}) must be lowercase")
    whole = f"{domain}/{remainder}"
    match = _REFERENCE.fullmatch(whole)
    if match is None:
        if _REFERENCE.fullmatch(whole.lower()):
            raise InvalidParameter("repository name must be lowercase")
        raise InvalidParameter("invalid reference format", hint="write it as [registry/]name[:tag][@digest]")
    domain, path, tag, digest = match.groups(default="")
    if len(domain) + 1 + len(path) > _NAME_MAX:
        raise InvalidParameter(f"repository name must not be more than {_NAME_MAX} characters")
    if digest:
        check_digest(digest)
    return Reference(domain, path, tag, digest)


def with_tag_or_digest(name: str, suffix: str) -> Reference:
    """A name and, apart from it, a tag or a digest, as ``fromImage`` and ``tag`` of the API give them.

    An empty ``suffix`` leaves what ``name`` says. Raises InvalidParameter.
    """
    reference = parse(name.removesuffix(":"))
    if not suffix:
        return reference
    if is_digest(suffix):
        return reference.trimmed().with_digest(suffix)
    return reference.with_tag(suffix)


def _split_domain(text: str) -> tuple[str, str]:
    """The domain and the rest. Only a first part with a dot, a colon or capitals, or ``localhost``, is a domain."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if is_domain(first):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def is_domain(first: str) -> bool:
    """True if ``first``, the part before the first slash, names a registry and not a folder of the default one."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first
