"""Image names as the user types them, read by the grammar that both ends share."""

from __future__ import annotations

from pyker.client.failure import Failure
from pyker.errors import InvalidParameter
from pyker.types.reference import DEFAULT_DOMAIN, Reference, parse

HUB_KEY = "https://index.docker.io/v1/"


def parse_name(text: str) -> Reference:
    """Read ``text``. Raises Failure in the reference engine's words."""
    try:
        return parse(text)
    except InvalidParameter as error:
        raise Failure(error.message) from None


def credentials_key(reference: Reference) -> str:
    """The key under which ``config.json`` keeps the credentials of the reference's registry."""
    return HUB_KEY if reference.domain == DEFAULT_DOMAIN else reference.domain


def auth_header(credentials: dict[str, str]) -> str:
    """``X-Registry-Auth``: base64url of the JSON."""
    import base64

    from pyker.client.wirejson import dumps

    return base64.urlsafe_b64encode(dumps(credentials).encode()).decode("ascii")
