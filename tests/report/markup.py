"""HTML that escapes whatever it is given: text in, tags only from ``h``."""

from __future__ import annotations

import html
import json


class Html(str):
    """Finished markup. Only ``h`` and ``join`` make it."""

    __slots__ = ()


def h(name: str, /, *children: str | None, **attributes: str | int | bool | None) -> Html:
    """An element. Strings are escaped, ``Html`` is not; ``class_`` is ``class``, ``aria_label`` is ``aria-label``."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"')
    parts.append(">")
    parts.extend(escape(child) for child in children if child is not None)
    if name not in ("meta", "input", "br", "hr"):
        parts.append(f"</{name}>")
    return Html("".join(parts))


def escape(text: str) -> Html:
    return text if isinstance(text, Html) else Html(html.escape(text, quote=True))


def join(*children: str | None, by: str = "") -> Html:
    return Html(by.join(escape(child) for child in children if child is not None))


def verbatim(text: str) -> Html:
    """The content of a script or style of our own; what could end the element early is refused."""
    if "</" in text:
        raise ValueError("a script or style that holds an end tag")
    return Html(text)


def data(value: object) -> Html:
    """JSON that no text in it can turn into markup: the characters that HTML or JavaScript look for are escaped."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
