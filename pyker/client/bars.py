"""Progress for a person who is watching: one bar a layer. The only module that imports rich."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from pyker.client.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

BAR_WIDTH = 32
ENDED = ("Pull complete", "Already exists", "Download complete", "Pushed", "Layer already exists")


def show_bars(records: Iterable[dict[str, Any]], descriptor: int) -> None:
    """Draw until the records end. Steps that belong to no layer are printed above the bars."""
    console = Console(stderr=descriptor == 2)
    columns = (
        TextColumn("{task.description}:"),
        TextColumn("{task.fields[status]}"),
        BarColumn(BAR_WIDTH),
        TextColumn("{task.fields[amount]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=12) as progress:
        bars: dict[str, TaskID] = {}
        for record in records:
            _show(progress, bars, record)


def _show(progress: Progress, bars: dict[str, TaskID], record: dict[str, Any]) -> None:
    if record.get("aux") is not None:
        return
    identifier = record.get("id")
    status = str(record.get("status") or record.get("stream") or "").rstrip("\n")
    detail = record.get("progressDetail")
    if not isinstance(detail, dict) or not identifier:
        line = f"{identifier}: {status}" if identifier else status
        if line:
            progress.console.print(Text(line), soft_wrap=True)
        return
    if identifier not in bars:
        bars[identifier] = progress.add_task(Text(str(identifier)).plain, total=None, status=status, amount="")
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if status in ENDED:
        progress.update(bars[identifier], completed=1, total=1, status=status, amount="")
    elif current or total:
        amount = f"{human_size(current)}/{human_size(total)}" if total else human_size(current)
        progress.update(bars[identifier], completed=current, total=total or None, status=status, amount=amount)
    else:
        progress.update(bars[identifier], status=status, amount="")
