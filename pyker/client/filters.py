"""``--filter`` values, in the JSON that the API wants."""

from __future__ import annotations

from pyker.client.wirejson import dumps


def encode_filters(items: list[str]) -> str:
    """``["label=a=b"]`` as ``{"label":{"a=b":true}}``; "" for none. Source: Docker API, "filters"."""
    if not any(items):
        return ""
    found: dict[str, dict[str, bool]] = {}
    for item in items:
        if not item:
            continue
        name, _, value = item.partition("=")
        found.setdefault(name.strip().lower(), {})[value.strip()] = True
    return dumps({name: dict(sorted(found[name].items())) for name in sorted(found)})
