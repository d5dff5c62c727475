"""From a template's text to a tree of nodes."""

from __future__ import annotations

from pyker.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DEPTH = 100
_SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Node:
    """One piece of a template. ``kind`` says which of the fields matter."""

    __slots__ = ("body", "kind", "names", "otherwise", "parts", "text", "value")

    def __init__(
        self,
        kind: str,
        *,
        text: str = "",
        value: object = None,
        parts: Sequence[Node] = (),
        names: Sequence[str] = (),
        body: Sequence[Node] = (),
        otherwise: Sequence[Node] = (),
    ) -> None:
        self.kind = kind
        self.text = text
        self.value = value
        self.parts = list(parts)
        self.names = list(names)
        self.body = list(body)
        self.otherwise = list(otherwise)


def bad(reason: str) -> Failure:
    """A template that cannot be read."""
    return Failure(f"template parsing error: template: :1: {reason}")


def _split_actions(text: str) -> list[tuple[str, str]]:
    """The template as (kind, content): text and actions in turn, trim marks applied."""
    found: list[tuple[str, str]] = []
    position = 0
    trim_next = False
    while True:
        start = text.find("{{", position)
        plain = text[position:] if start < 0 else text[position:start]
        if trim_next:
            plain = plain.lstrip(_SPACE)
        if start >= 0 and text.startswith("{{-", start) and text[start + 3 : start + 4] in tuple(_SPACE):
            plain = plain.rstrip(_SPACE)
        if plain:
            found.append(("text", plain))
        if start < 0:
            return found
        end = _action_end(text, start + 2)
        action = text[start + 2 : end]
        if action.startswith("-") and action[1:2] in tuple(_SPACE):
            action = action[1:]
        trim_next = action.endswith("-") and action[-2:-1] in tuple(_SPACE)
        if trim_next:
            action = action[:-1]
        found.append(("action", action.strip(_SPACE)))
        position = end + 2


def _action_end(text: str, position: int) -> int:
    """Where the action that begins at ``position`` ends; quotes may hold braces."""
    quote = ""
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\" and quote != "`":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"`'":
            quote = character
        elif text.startswith("}}", position):
            return position
        position += 1
    raise bad("unclosed action" if not quote else "unterminated quoted string")


def _tokens(action: str) -> list[str]:
    """Words of an action: quoted strings, ``|``, ``(``, ``)``, ``,``, ``:=``, ``=``, and the rest.

    A space is kept as a token of its own, because ``(x).A`` and ``(x) .A`` differ.
    """
    found: list[str] = []
    position = 0
    while position < len(action):
        character = action[position]
        if character in _SPACE:
            if found and found[-1] != " ":
                found.append(" ")
            position += 1
        elif character in "\"`'":
            end = position + 1
            while end < len(action) and action[end] != character:
                end += 2 if action[end] == "\\" and character != "`" else 1
            found.append(action[position : end + 1])
            position = end + 1
        elif action.startswith(":=", position):
            found.append(":=")
            position += 2
        elif character in "|(),=":
            found.append(character)
            position += 1
        else:
            end = position
            while end < len(action) and action[end] not in _SPACE + "\"`'|(),=:":
                end += 1
            if end == position:
                raise bad(f"unexpected {character!r} in action")
            found.append(action[position:end])
            position = end
    return found


class _Words:
    """Tokens of one action, read from left to right."""

    def __init__(self, action: str) -> None:
        self._tokens = _tokens(action)
        self._position = 0
        self.depth = 0

    def skip(self) -> None:
        while self.peek() == " ":
            self._position += 1

    def peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._position += 1
        return token

    def rest(self) -> list[str]:
        return [token for token in self._tokens[self._position :] if token != " "]


def _declaration(words: _Words) -> tuple[list[str], str]:
    """``$i, $v :=`` at the start: the names and which sign; empty if there is none."""
    rest = words.rest()
    for sign in (":=", "="):
        if sign in rest:
            names = rest[: rest.index(sign)]
            if names and all(name == "," or name.startswith("$") for name in names):
                while words.take() != sign:
                    continue
                return [name for name in names if name != ","], sign
    return [], ""


def _pipeline(words: _Words, end: str = "") -> Node:
    """Commands between ``|``, up to ``end``."""
    names, sign = _declaration(words)
    commands: list[Node] = []
    while True:
        commands.append(_command(words, end))
        words.skip()
        token = words.peek()
        if token == "|":
            words.take()
            continue
        if token != end:
            raise bad(f"unexpected {token!r} in operand" if token else "unclosed left paren")
        return Node("pipeline", parts=commands, names=names, text=sign)


def _command(words: _Words, end: str) -> Node:
    operands: list[Node] = []
    while True:
        words.skip()
        if words.peek() in ("|", end):
            break
        operands.append(_operand(words))
    if not operands:
        raise bad("missing value for command")
    return Node("command", parts=operands)


def _operand(words: _Words) -> Node:
    token = words.take()
    if not token:
        raise bad("unclosed left paren")
    if token == "(":
        words.depth += 1
        if words.depth > MAX_DEPTH:
            raise bad("expression is nested too deeply")
        node = _pipeline(words, ")")
        words.take()
        words.depth -= 1
        follow = words.peek()
        if follow.startswith(".") and len(follow) > 1:
            words.take()
            return Node("chain", parts=[node], names=_fields(follow))
        return node
    if token[0] in "\"`'":
        return Node("literal", value=_unquote(token))
    if token == ".":
        return Node("dot")
    if token.startswith("."):
        return Node("field", names=_fields(token), text=token)
    if token.startswith("$"):
        name, *fields = token.split(".")
        if not all(fields):
            raise bad(f"bad variable {token!r}")
        return Node("variable", text=name, names=fields)
    if token in ("true", "false"):
        return Node("literal", value=token == "true")
    if token == "nil":
        return Node("literal", value=None)
    if token[0].isdigit() or (token[0] in "+-" and len(token) > 1):
        return Node("literal", value=_number(token))
    if token[0].isalpha() or token[0] == "_":
        name, *fields = token.split(".")
        if fields:
            return Node("chain", parts=[Node("function", text=name)], names=fields)
        from pyker.client.template.functions import FUNCTIONS

        if token not in FUNCTIONS and token not in ("and", "or"):
            raise bad(f'function "{token}" not defined')
        return Node("function", text=token)
    raise bad(f"unexpected {token!r} in command")


def _fields(token: str) -> list[str]:
    names = token.split(".")[1:]
    if not all(name and (name[0].isalpha() or name[0] == "_") for name in names):
        raise bad(f"bad field {token!r}")
    return names


def _unquote(token: str) -> object:
    quote, inner = token[0], token[1:-1]
    if len(token) < 2 or token[-1] != quote:
        raise bad("unterminated quoted string")
    if quote == "`":
        return inner
    out, position = "", 0
    while position < len(inner):
        character = inner[position]
        if character == "\\":
            position += 1
            escape = inner[position : position + 1]
            if escape == "x" or escape == "u":
                width = 2 if escape == "x" else 4
                try:
                    character = chr(int(inner[position + 1 : position + 1 + width], 16))
                except ValueError:
                    raise bad(f"bad escape in {token}") from None
                position += width
            elif escape in _ESCAPES:
                character = _ESCAPES[escape]
            else:
                raise bad(f"bad escape in {token}")
        out += character
        position += 1
    return ord(out) if quote == "'" and len(out) == 1 else out


def _number(token: str) -> object:
    try:
        return int(token, 0)
    except ValueError:
        pass
    try:
        return float(token)
    except ValueError:
        raise bad(f"bad number syntax: {token!r}") from None


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = _split_actions(text)
        self._position = 0
        self._depth = 0

    def nodes(self, stops: tuple[str, ...]) -> tuple[list[Node], str, str]:
        """Nodes up to an action whose keyword is one of ``stops``; returns them, the keyword and its rest."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise bad("template is nested too deeply")
        found: list[Node] = []
        while self._position < len(self._pieces):
            kind, content = self._pieces[self._position]
            self._position += 1
            if kind == "text":
                found.append(Node("text", text=content))
                continue
            if content.startswith("/*"):
                continue
            keyword, _, rest = content.partition(" ")
            if keyword in stops:
                self._depth -= 1
                return found, keyword, rest.strip(_SPACE)
            found.append(self._action(keyword, rest, content))
        self._depth -= 1
        if stops:
            raise bad("unexpected EOF")
        return found, "", ""

    def _action(self, keyword: str, rest: str, content: str) -> Node:
        match keyword:
            case "if" | "with" | "range":
                return self._block(keyword, rest)
            case "end" | "else":
                raise bad(f"unexpected {{{{{keyword}}}}}")
            case "break" | "continue":
                return Node(keyword)
            case "define" | "template" | "block":
                raise bad(f"{{{{{keyword}}}}} is not understood here")
        if not content:
            raise bad("missing value for command")
        return Node("action", parts=[_pipeline(_Words(content))])

    def _block(self, keyword: str, rest: str) -> Node:
        if not rest:
            raise bad(f"missing value for {keyword}")
        head = _pipeline(_Words(rest))
        body, stop, after = self.nodes(("else", "end"))
        otherwise: list[Node] = []
        if stop == "else":
            if after:
                inner, _, inner_rest = after.partition(" ")
                if inner not in ("if", "with"):
                    raise bad(f"unexpected <{inner}> in else")
                otherwise = [self._block(inner, inner_rest)]
            else:
                otherwise, _, _ = self.nodes(("end",))
        return Node(keyword, parts=[head], body=body, otherwise=otherwise)


def parse_template(text: str) -> list[Node]:
    """The nodes of ``text``. Raises Failure as Go would."""
    nodes, _, _ = _Parser(text).nodes(())
    return nodes
