"""Progress records: the JSON lines that pull, push, import and load answer with.

Source: Docker API v1.45 POST /images/create; the field order is the reference engine's.
"""

from __future__ import annotations

import json

from pyker.api.units import human_size
from pyker.types.events import Progress

END = "\r\n"
"""Every record ends so."""

_LAYER_ID_LENGTH = 12


def progress_bar(current: int, total: int) -> str:
    """``[=====>      ]  1.2MB/3.4MB`` as old clients print it; without a total only the amount."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{human_size(current):>8}"
    filled = min(100, int(current / total * 100)) // 2
    amounts = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    return f"[{'=' * filled}>{' ' * (50 - filled)}] {amounts}"


def to_record(progress: Progress) -> dict[str, object]:
    """The JSON object for one step."""
    if progress.error:
        return {"errorDetail": {"message": progress.error}, "error": progress.error}
    if progress.stream:
        return {"stream": progress.stream}
    if progress.aux is not None:
        return {"progressDetail": {}, "aux": progress.aux}
    record: dict[str, object] = {"status": progress.status}
    if progress.current or progress.total:
        detail: dict[str, int] = {"current": progress.current}
        if progress.total:
            detail["total"] = progress.total
        record["progressDetail"] = detail
        record["progress"] = progress_bar(progress.current, progress.total)
        record["id"] = progress.id
    elif _is_layer(progress.id):
        record["progressDetail"] = {}
        record["id"] = progress.id
    elif progress.id:
        record["id"] = progress.id
    return record


def _is_layer(identifier: str) -> bool:
    return len(identifier) == _LAYER_ID_LENGTH and not identifier.strip("0123456789abcdef")


def encode(progress: Progress) -> bytes:
    """One line of the stream."""
    return json.dumps(to_record(progress), separators=(",", ":"), ensure_ascii=False).encode() + b"\r\n"


def from_record(record: dict[str, object]) -> Progress:
    """Read a record again, at the client's end. What it does not know it ignores."""
    detail = record.get("progressDetail")
    amounts = detail if isinstance(detail, dict) else {}
    aux = record.get("aux")
    failure = record.get("errorDetail")
    error = str(failure.get("message", "")) if isinstance(failure, dict) else ""
    return Progress(
        status=str(record.get("status") or ""),
        id=str(record.get("id") or ""),
        current=int(amounts.get("current") or 0),
        total=int(amounts.get("total") or 0),
        aux=aux if isinstance(aux, dict) else None,
        error=error or str(record.get("error") or ""),
        stream=str(record.get("stream") or ""),
    )
