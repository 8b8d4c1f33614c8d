"""Go's ``text/template``, as far as ``--format`` uses it: text and ``{{actions}}`` → a tree that `execute` walks.

Supported: fields, variables, pipelines, parentheses, if / else if / else, range with else / break / continue, with,
define and template, comments, trim markers, and the functions of `scow.cli.template_functions`. Nothing is executed
but those functions: a template cannot reach anything outside the value it is given.
"""

from __future__ import annotations

from scow.cli.template_functions import (
    FUNCTIONS,
    Fields,
    Missing,
    RawMap,
    TemplateError,
    go_type,
    printed,
    truth,
)
from scow.cli.template_lexer import Token, actions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: One node: writes to the frame's output.
    Node = Callable[["_Frame"], None]
    #: One expression: a value for a frame.
    Value = Callable[["_Frame"], Any]

LARGEST_OUTPUT = 64 << 20
DEEPEST = 100


class _Break(Exception):
    """{{break}}"""


class _Continue(Exception):
    """{{continue}}"""


class _Frame:
    """The dot, the variables in scope, and where output goes."""

    __slots__ = ("depth", "dot", "functions", "out", "root", "templates", "variables")

    def __init__(self, root: Any, templates: dict[str, list[Node]], functions: dict[str, Callable[..., Any]]) -> None:
        self.root = root
        self.dot = root
        self.variables: list[tuple[str, Any]] = [("$", root)]
        self.out: list[str] = []
        self.templates = templates
        self.functions = functions
        self.depth = 0

    def run(self, nodes: list[Node]) -> None:
        mark = len(self.variables)
        for node in nodes:
            node(self)
        del self.variables[mark:]

    def variable(self, name: str) -> Any:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise TemplateError(f"undefined variable: {name}")

    def assign(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return
        raise TemplateError(f"undefined variable: {name}")


class Template:
    """A parsed template.

    Raises:
        TemplateError: it cannot be parsed; the text is Go's where clients are known to read it.
    """

    def __init__(self, text: str) -> None:
        self.templates: dict[str, list[Node]] = {}
        parser = _Parser(actions(text), self.templates)
        self.nodes, ended = parser.block(())
        if ended:
            raise TemplateError(f"template: :1: unexpected {{{{{ended}}}}}")

    def execute(self, value: Any, functions: dict[str, Callable[..., Any]] | None = None) -> str:
        """The output for `value`; `functions` replace those of the same name.

        Raises:
            TemplateError: a field that is not there, a function used wrongly.
        """
        frame = _Frame(value, self.templates, {**FUNCTIONS, **(functions or {})})
        try:
            frame.run(self.nodes)
        except RecursionError:
            raise TemplateError("template: :1: nested too deeply") from None
        return "".join(frame.out)


class _Parser:
    def __init__(self, parts: list[str | list[Token]], templates: dict[str, list[Node]]) -> None:
        self.parts = parts
        self.at = 0
        self.templates = templates
        self.variables = ["$"]

    def block(self, enders: tuple[str, ...]) -> tuple[list[Node], str]:
        """Nodes up to ``{{end}}`` or one of `enders`; which it was ("" at the end of the text)."""
        nodes: list[Node] = []
        mark = len(self.variables)
        while self.at < len(self.parts):
            part = self.parts[self.at]
            self.at += 1
            if isinstance(part, str):
                nodes.append(_text(part))
                continue
            word = part[0].text if part and part[0].kind == "word" else ""
            if word in ("end", "else"):
                if word not in enders:
                    raise TemplateError(f"template: :1: unexpected {{{{{word}}}}}")
                del self.variables[mark:]
                self.ender = part[1:]
                return nodes, word
            node = self.statement(word, part)
            if node is not None:
                nodes.append(node)
        if enders:
            raise TemplateError("template: :1: unexpected EOF")
        return nodes, ""

    def statement(self, word: str, tokens: list[Token]) -> Node | None:
        if word in ("if", "with", "range"):
            return self.branch(word, tokens[1:])
        if word in ("define", "block"):
            return self.define(word, tokens[1:])
        if word == "template":
            return self.call(tokens[1:])
        if word == "break":
            return _raiser(_Break)
        if word == "continue":
            return _raiser(_Continue)
        if not tokens:
            raise TemplateError("template: :1: missing value for command")
        return _action(_Expression(tokens, self.variables).pipeline())

    def branch(self, word: str, tokens: list[Token]) -> Node:
        mark = len(self.variables)
        if not tokens:
            raise TemplateError(f"template: :1: missing value for {word}")
        pipeline = _Expression(tokens, self.variables, ranging=word == "range").pipeline()
        body, ended = self.block(("end", "else"))
        other: list[Node] = []
        if ended == "else":
            chained = self.ender
            if chained and chained[0].kind == "word" and chained[0].text in ("if", "with"):
                other = [self.branch(chained[0].text, chained[1:])]
            else:
                other, _ = self.block(("end",))
        del self.variables[mark:]
        if word == "if":
            return _if(pipeline, body, other)
        if word == "with":
            return _with(pipeline, body, other)
        return _range(pipeline, body, other)

    def define(self, word: str, tokens: list[Token]) -> Node | None:
        if not tokens or tokens[0].kind != "string":
            raise TemplateError(f"template: :1: unexpected word in {word} clause")
        name = tokens[0].text
        call = self.call(tokens) if word == "block" else None
        outer, self.variables = self.variables, ["$"]
        self.templates[name], _ = self.block(("end",))
        self.variables = outer
        return call

    def call(self, tokens: list[Token]) -> Node:
        if not tokens or tokens[0].kind != "string":
            raise TemplateError("template: :1: unexpected word in template clause")
        name = tokens[0].text
        pipeline = _Expression(tokens[1:], self.variables).pipeline() if len(tokens) > 1 else None

        def node(frame: _Frame) -> None:
            if name not in frame.templates:
                raise TemplateError(f'template: :1: template "{name}" not defined')
            if frame.depth >= DEEPEST:
                raise TemplateError("template: :1: exceeded maximum template depth")
            inner = _Frame(pipeline.value(frame) if pipeline else None, frame.templates, frame.functions)
            inner.out = frame.out
            inner.depth = frame.depth + 1
            inner.run(frame.templates[name])

        return node


class _Pipeline:
    """The value of one action, and the variables it sets."""

    __slots__ = ("declares", "names", "value")

    def __init__(self, value: Value, names: list[str], declares: bool) -> None:
        self.value = value
        self.names = names
        self.declares = declares

    def bind(self, frame: _Frame) -> Any:
        """Evaluate, and set the variable if there is one."""
        value = self.value(frame)
        for name in self.names:
            if self.declares:
                frame.variables.append((name, value))
            else:
                frame.assign(name, value)
        return value


class _Expression:
    """Recursive descent over the tokens of one action."""

    def __init__(self, tokens: list[Token], variables: list[str], ranging: bool = False) -> None:
        self.tokens = tokens
        self.at = 0
        self.variables = variables
        self.ranging = ranging

    def pipeline(self) -> _Pipeline:
        names, declares = self._targets()
        value = self._commands()
        if self.at < len(self.tokens):
            raise TemplateError(f"template: :1: unexpected {self.tokens[self.at].source} in operand")
        if declares:
            self.variables += names
        return _Pipeline(value, names, declares)

    def _targets(self) -> tuple[list[str], bool]:
        kinds = [token.kind for token in self.tokens[:4]]
        count = 0
        if len(kinds) > 1 and kinds[0] == "variable" and kinds[1] == "assign":
            count = 1
        elif self.ranging and kinds == ["variable", "comma", "variable", "assign"]:
            count = 2
        if not count:
            return [], False
        names = [token.text for token in self.tokens[: 2 * count : 2]]
        declares = self.tokens[2 * count - 1].text == ":="
        self.at = 2 * count
        return names, declares

    def _commands(self) -> Value:
        value = self._command(None)
        while self.at < len(self.tokens) and self.tokens[self.at].kind == "pipe":
            self.at += 1
            value = self._command(value)
        return value

    def _command(self, piped: Value | None) -> Value:
        """One command; `piped` is its last argument."""
        if self.at >= len(self.tokens):
            raise TemplateError("template: :1: missing value for command")
        head = self.tokens[self.at]
        if head.kind == "word" and head.text not in ("true", "false", "nil"):
            self.at += 1
            if head.text not in FUNCTIONS:
                raise TemplateError(f'template: :1: function "{head.text}" not defined')
            call = _function(head.text, self._arguments(piped))
            return self._chain(call)
        operand = self._operand()
        arguments = self._arguments(piped)
        return _method(operand, arguments, head.source) if arguments else operand

    def _arguments(self, piped: Value | None) -> list[Value]:
        found = []
        while self.at < len(self.tokens) and self.tokens[self.at].kind not in ("pipe", "close"):
            found.append(self._operand())
        return [*found, piped] if piped is not None else found

    def _operand(self) -> Value:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "field":
            return self._chain(_field(_dot, token.text))
        if token.kind == "dot":
            return _dot
        if token.kind == "variable":
            if token.text not in self.variables:
                raise TemplateError(f'template: :1: undefined variable "{token.text}"')
            return self._chain(_variable(token.text))
        if token.kind in ("string", "number"):
            return _constant(token.value)
        if token.kind == "word":
            if token.text in ("true", "false", "nil"):
                return _constant({"true": True, "false": False, "nil": None}[token.text])
            if token.text in FUNCTIONS:
                return _function(token.text, [])
            raise TemplateError(f'template: :1: function "{token.text}" not defined')
        if token.kind == "open":
            value = self._commands()
            if self.at >= len(self.tokens) or self.tokens[self.at].kind != "close":
                raise TemplateError("template: :1: unclosed left paren")
            self.at += 1
            return self._chain(value)
        raise TemplateError(f"template: :1: unexpected {token.source} in operand")

    def _chain(self, value: Value) -> Value:
        """Fields directly behind an operand: ``$x.A.B``, ``(f y).A``."""
        while self.at < len(self.tokens) and self.tokens[self.at].kind == "field" and self.tokens[self.at].joined:
            value = _field(value, self.tokens[self.at].text)
            self.at += 1
        return value


# ---- what the nodes do ---------------------------------------------------------------------------


def _text(text: str) -> Node:
    return lambda frame: frame.out.append(text)


def _raiser(kind: type[Exception]) -> Node:
    def node(frame: _Frame) -> None:
        raise kind

    return node


def _action(pipeline: _Pipeline) -> Node:
    def node(frame: _Frame) -> None:
        value = pipeline.bind(frame)
        if not pipeline.names:
            frame.out.append(printed(value))

    return node


def _if(pipeline: _Pipeline, body: list[Node], other: list[Node]) -> Node:
    def node(frame: _Frame) -> None:
        mark = len(frame.variables)
        frame.run(body if truth(pipeline.bind(frame)) else other)
        del frame.variables[mark:]

    return node


def _with(pipeline: _Pipeline, body: list[Node], other: list[Node]) -> Node:
    def node(frame: _Frame) -> None:
        mark = len(frame.variables)
        value = pipeline.bind(frame)
        if truth(value):
            outer, frame.dot = frame.dot, value
            frame.run(body)
            frame.dot = outer
        else:
            frame.run(other)
        del frame.variables[mark:]

    return node


def _range(pipeline: _Pipeline, body: list[Node], other: list[Node]) -> Node:
    def node(frame: _Frame) -> None:
        mark = len(frame.variables)
        outer = frame.dot
        count = 0
        for key, value in _pairs(pipeline.value(frame)):
            count += 1
            del frame.variables[mark:]
            if pipeline.names:
                frame.variables += list(
                    zip(pipeline.names, (key, value) if len(pipeline.names) == 2 else (value,), strict=True)
                )
            frame.dot = value
            try:
                frame.run(body)
            except _Continue:
                continue
            except _Break:
                break
        frame.dot = outer
        del frame.variables[mark:]
        if not count:
            frame.run(other)

    return node


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(index, index) for index in range(min(value, 1 << 20))]
    if value is None or isinstance(value, Missing):
        return []
    raise TemplateError(f"range can't iterate over {printed(value)}")


# ---- what the expressions give -------------------------------------------------------------------


def _dot(frame: _Frame) -> Any:
    return frame.dot


def _constant(value: Any) -> Value:
    return lambda frame: value


def _variable(name: str) -> Value:
    return lambda frame: frame.variable(name)


def _field(operand: Value, name: str) -> Value:
    return lambda frame: _lookup(operand(frame), name)


def _lookup(value: Any, name: str) -> Any:
    """Field or map entry `name` of `value`."""
    if isinstance(value, Fields | RawMap):
        return value.field(name)
    if isinstance(value, dict):
        return value.get(name, Missing())
    if value is None or isinstance(value, Missing):
        raise TemplateError(f'template: :1:2: executing "" at <.{name}>: nil pointer evaluating interface {{}}.{name}')
    raise TemplateError(
        f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name} in type {go_type(value)}'
    )


def _method(operand: Value, arguments: list[Value], source: str) -> Value:
    def value(frame: _Frame) -> Any:
        found = operand(frame)
        if not callable(found):
            raise TemplateError(f"template: :1: {source} is not a method but has arguments")
        return found(*[argument(frame) for argument in arguments])

    return value


def _function(name: str, arguments: list[Value]) -> Value:
    if name in ("and", "or"):
        return _short_circuit(name, arguments)

    def value(frame: _Frame) -> Any:
        try:
            return frame.functions[name](*[argument(frame) for argument in arguments])
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise TemplateError(f'template: :1:2: executing "" at <{name}>: error calling {name}: {error}') from None

    return value


def _short_circuit(name: str, arguments: list[Value]) -> Value:
    if not arguments:
        raise TemplateError(f"template: :1: wrong number of args for {name}: want at least 1 got 0")

    def value(frame: _Frame) -> Any:
        result: Any = None
        for argument in arguments:
            result = argument(frame)
            if truth(result) == (name == "or"):
                break
        return result

    return value
