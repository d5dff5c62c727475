"""From a tree of nodes and a value to text."""

from __future__ import annotations

from pyker.client.failure import Failure
from pyker.client.template.functions import FUNCTIONS, TemplateError, show, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyker.client.template.parse import Node

MAX_OUTPUT = 256 * 1024 * 1024


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Evaluation:
    """One rendering: the value, the variables, and the text so far."""

    def __init__(self, value: object) -> None:
        self._root = value
        self._scopes: list[dict[str, object]] = [{"$": value}]
        self._out: list[str] = []

    def run(self, nodes: Sequence[Node]) -> str:
        try:
            self._walk(nodes, self._root)
        except TemplateError as error:
            raise Failure(f'template parsing error: template: :1: executing "" {error}') from None
        except (_Break, _Continue):
            raise Failure("template parsing error: template: :1: {{break}} outside {{range}}") from None
        return "".join(self._out)

    def _walk(self, nodes: Sequence[Node], dot: object) -> None:
        for node in nodes:
            match node.kind:
                case "text":
                    self._out.append(node.text)
                case "action":
                    value = self._pipeline(node.parts[0], dot)
                    if not node.parts[0].names:
                        self._out.append(show(value))
                case "if":
                    self._choose(node, dot, rebind=False)
                case "with":
                    self._choose(node, dot, rebind=True)
                case "range":
                    self._range(node, dot)
                case "break":
                    raise _Break
                case "continue":
                    raise _Continue

    def _choose(self, node: Node, dot: object, *, rebind: bool) -> None:
        self._scopes.append({})
        value = self._pipeline(node.parts[0], dot)
        if truth(value):
            self._walk(node.body, value if rebind else dot)
        else:
            self._walk(node.otherwise, dot)
        self._scopes.pop()

    def _range(self, node: Node, dot: object) -> None:
        head = node.parts[0]
        value = self._pipeline(head, dot, declare=False)
        pairs: list[tuple[object, object]]
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(index, index) for index in range(min(value, 1_000_000))]
        elif value is None:
            pairs = []
        else:
            raise TemplateError(f"range can't iterate over {show(value)}")
        if not pairs:
            self._walk(node.otherwise, dot)
            return
        for key, item in pairs:
            scope: dict[str, object] = {}
            if len(head.names) == 1:
                scope[head.names[0]] = item
            elif len(head.names) == 2:
                scope[head.names[0]], scope[head.names[1]] = key, item
            self._scopes.append(scope)
            try:
                self._walk(node.body, item)
            except _Continue:
                continue
            except _Break:
                return
            finally:
                del self._scopes[self._scopes.index(scope) :]

    def _pipeline(self, node: Node, dot: object, *, declare: bool = True) -> object:
        value: object = None
        for index, command in enumerate(node.parts):
            value = self._command(command, dot, [value] if index else [])
        if declare and node.names:
            if node.text == "=":
                for scope in reversed(self._scopes):
                    if node.names[0] in scope:
                        scope[node.names[0]] = value
                        return value
                raise TemplateError(f"undefined variable {node.names[0]}")
            self._scopes[-1][node.names[0]] = value
        return value

    def _command(self, command: Node, dot: object, piped: list[object]) -> object:
        first, *rest = command.parts
        if first.kind == "function":
            if first.text in ("and", "or"):
                return self._short_circuit(first.text, rest, dot, piped)
            arguments = [self._operand(node, dot) for node in rest] + piped
            return FUNCTIONS[first.text](*self._checked(first.text, arguments))
        if first.kind in ("field", "chain", "variable") and (rest or piped):
            return self._operand(first, dot, [self._operand(node, dot) for node in rest] + piped)
        if rest or piped:
            raise TemplateError("can't give argument to non-function")
        return self._operand(first, dot)

    @staticmethod
    def _checked(name: str, arguments: list[Any]) -> list[Any]:
        from pyker.client.template.functions import LIMITS

        least, most = LIMITS.get(name, (0, 1000))
        if not least <= len(arguments) <= most:
            raise TemplateError(f"wrong number of args for {name}: want {least} got {len(arguments)}")
        return arguments

    def _short_circuit(self, name: str, rest: list[Node], dot: object, piped: list[object]) -> object:
        value: object = None
        for node in rest:
            value = self._operand(node, dot)
            if truth(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _operand(self, node: Node, dot: object, arguments: list[object] | None = None) -> object:
        match node.kind:
            case "dot":
                return dot
            case "literal":
                return node.value
            case "field":
                return _descend(dot, node.names, arguments or [])
            case "variable":
                for scope in reversed(self._scopes):
                    if node.text in scope:
                        return _descend(scope[node.text], node.names, arguments or [])
                raise TemplateError(f'undefined variable "{node.text}"')
            case "pipeline":
                return self._pipeline(node, dot)
            case "chain":
                inner = node.parts[0]
                value = self._pipeline(inner, dot) if inner.kind == "pipeline" else self._command_of(inner, dot)
                return _descend(value, node.names, arguments or [])
        return self._command_of(node, dot)

    def _command_of(self, node: Node, dot: object) -> object:
        if node.kind == "function" and node.text in FUNCTIONS:
            return FUNCTIONS[node.text](*self._checked(node.text, []))
        raise TemplateError(f"can't evaluate {node.text or node.kind}")


def _descend(value: object, names: Sequence[str], arguments: list[object]) -> object:
    for index, name in enumerate(names):
        if isinstance(value, dict):
            if name not in value:
                # Go's own names of some fields differ in case from those on the wire: APIVersion, ID.
                name = next((key for key in value if key.lower() == name.lower()), name)
            if name not in value:
                where = ".".join(["", *names[: index + 1]])
                raise TemplateError(f'at <{where}>: map has no entry for key "{name}"')
            value = value[name]
        elif value is None:
            where = ".".join(["", *names[: index + 1]])
            raise TemplateError(f"at <{where}>: nil pointer evaluating interface {{}}.{name}")
        else:
            where = ".".join(["", *names[: index + 1]])
            raise TemplateError(f"at <{where}>: can't evaluate field {name} in type {type_name(value)}")
    if callable(value):
        return value(*arguments)
    if arguments:
        raise TemplateError(f"{names[-1] if names else '.'} has arguments but cannot be invoked as function")
    return value


def type_name(value: object) -> str:
    """What Go would call the type of a decoded JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "json.Number"
    return "[]interface {}" if isinstance(value, list) else "interface {}"
