"""Go templates, as far as docker's users write them: ``--format '{{.State.Pid}}'``, ``{{range .Mounts}}…{{end}}``.

Source: Go's documented text/template language; the docker CLI's formatting functions.
"""

from __future__ import annotations

from pyker.client.template.evaluate import Evaluation
from pyker.client.template.parse import parse_template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Template:
    """A compiled template. Raises Failure where Go reports an error, when compiled or when rendered."""

    def __init__(self, text: str) -> None:
        self._nodes = parse_template(text)

    def render(self, value: object) -> str:
        """The text for ``value``: what ``.`` is."""
        return Evaluation(value).run(self._nodes)


def render_each(text: str, rows: list[Mapping[str, object]]) -> str:
    """One line a row."""
    compiled = Template(text)
    return "".join(compiled.render(row) + "\n" for row in rows)
