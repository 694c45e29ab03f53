"""Optimizers as programs: a list of statements, each one function call, and the readable file that holds it.

A file is Python to the eye and never executed: it is parsed against a whitelist of syntax. Section 2 and Appendix of
Chen et al. 2023 (arXiv:2302.06675) have the signature and the programs.
"""

import ast
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lion.discovery.language.ops import ALIASES, OPS, SYMBOLS

INPUTS = ("w", "g", "m", "v", "lr")  # weights, gradient, two states that begin as zeros, learning rate
OUTPUTS = ("update", "m", "v")  # the caller computes w - update
STATES = ("m", "v")
SHIPPED = Path(__file__).parents[1] / "programs"
SIGNATURE = f"def train({', '.join(INPUTS)}):"

Arg = str | float


class ProgramError(ValueError):
    """A program, or the file that should hold one, is not what it has to be; the message is one line."""


class Stmt(NamedTuple):
    """`out = op(*args)`: an argument is a variable's name or a number."""

    out: str
    op: str
    args: tuple[Arg, ...]

    def __str__(self) -> str:
        return f"{self.out} = {_expression(self.op, self.args)}"


@dataclass(frozen=True, slots=True)
class Program:
    """Statements in the order in which they run; inputs and outputs are the same for every program."""

    stmts: tuple[Stmt, ...]

    def __len__(self) -> int:
        return len(self.stmts)

    def __str__(self) -> str:
        return render(self)

    def replace(self, number: int, *stmts: Stmt) -> "Program":
        """The program with other statements in place of one; with none, it is deleted."""
        return Program(self.stmts[:number] + stmts + self.stmts[number + 1 :])

    def insert(self, number: int, stmt: Stmt) -> "Program":
        """The program with one statement more, before statement `number`."""
        return Program((*self.stmts[:number], stmt, *self.stmts[number:]))

    def keep(self, numbers: Iterable[int]) -> "Program":
        """The program with these statements only."""
        return Program(tuple(self.stmts[number] for number in sorted(numbers)))


def constant(value: float) -> float:
    """A number as programs hold it: finite, and 0.0 for -0.0, which Python counts as equal.

    Raises:
        ProgramError: the value is not finite.
    """
    if not math.isfinite(value):
        raise ProgramError(f"a constant must be finite, not {value}")
    return float(value) + 0.0


def render(program: Program, title: str = "") -> str:
    """The file's text: `parse` gives the same program back, constants to the last bit."""
    heading = [f'"""{title}"""', ""] if title else []
    body = [f"    {stmt}" for stmt in program.stmts]
    return "\n".join([*heading, SIGNATURE, *body, f"    return {', '.join(OUTPUTS)}", ""])


def _expression(op: str, args: tuple[Arg, ...]) -> str:
    words = [arg if isinstance(arg, str) else repr(arg) for arg in args]
    if (symbol := SYMBOLS.get(op)) is None:
        return f"{op}({', '.join(words)})"
    if words[0].startswith("-"):
        words[0] = f"({words[0]})"  # -2.0 ** x would be read as -(2.0 ** x)
    return f" {symbol} ".join(words)


def load(name: str | Path) -> Program:
    """Read a program: one of those shipped by its name (`program4`), or a file.

    Raises:
        ProgramError: there is no such program or file, or it does not hold a program.
    """
    path = SHIPPED / f"{name}.py" if str(name) in shipped() else Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ProgramError(f"program {name}: {reason}; give a file or one of {', '.join(shipped())}") from None
    return parse(text, path.name)


def shipped() -> list[str]:
    """The names of the programs that come along."""
    return sorted(path.stem for path in SHIPPED.glob("*.py"))


def parse(text: str, name: str = "program") -> Program:
    """A program from its text.

    Raises:
        ProgramError: the text holds anything but one `def train(w, g, m, v, lr):` of assignments, each with one call
            of a known function or one of + - * / **, and `return update, m, v` at the end. Types are not checked.
    """
    try:
        return _program(ast.parse(text), name)
    except ProgramError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = str(error.args[0]) if error.args else "nested too deeply"
        raise ProgramError(f"{name}{line}: not readable as Python ({reason})") from None


def _program(module: ast.Module, name: str) -> Program:
    body = _without_docstring(module.body)
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or not _has_signature(body[0]):
        raise ProgramError(f"{name}: expected one function and nothing else, which begins '{SIGNATURE}'")
    *assignments, last = _without_docstring(body[0].body) or [body[0]]
    if not isinstance(last, ast.Return) or last.value is None or ast.unparse(last.value) != f"({', '.join(OUTPUTS)})":
        raise ProgramError(f"{name}:{last.lineno}: the last line must be 'return {', '.join(OUTPUTS)}'")
    return Program(tuple(_statement(node, name) for node in assignments))


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str
    )
    return body[1:] if documented else body


def _has_signature(function: ast.FunctionDef) -> bool:
    plain = not (function.decorator_list or function.returns or getattr(function, "type_params", None))
    return plain and function.name == "train" and ast.unparse(function.args) == ", ".join(INPUTS)


def _statement(node: ast.stmt, name: str) -> Stmt:
    where = f"{name}:{node.lineno}"
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        raise ProgramError(f"{where}: expected an assignment like 'm = interp(g, m, 0.9)', not '{_excerpt(node)}'")
    out = node.targets[0].id
    if out in OPS or out in ALIASES:
        raise ProgramError(f"{where}: '{out}' is a function's name; call the variable something else")
    value = node.value
    if isinstance(value, ast.BinOp) and (symbol := _SYMBOL_OF.get(type(value.op))):
        op, arguments = symbol, [value.left, value.right]
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and not value.keywords:
        op, arguments = ALIASES.get(value.func.id, value.func.id), value.args
    else:
        raise ProgramError(f"{where}: expected one function call or one of + - * / **, not '{_excerpt(value)}'")
    if op not in OPS:
        raise ProgramError(f"{where}: unknown function '{op}'; known: {', '.join(OPS)}")
    if len(arguments) != OPS[op].arity:
        raise ProgramError(f"{where}: {op} takes {OPS[op].arity} arguments, not {len(arguments)}")
    return Stmt(out, op, tuple(_argument(argument, where) for argument in arguments))


def _argument(node: ast.expr, where: str) -> Arg:
    if isinstance(node, ast.Name):
        return node.id
    sign, number = 1.0, node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, number = -1.0, node.operand
    if isinstance(number, ast.Constant) and type(number.value) in (int, float):
        try:
            return constant(sign * float(number.value))  # type: ignore[arg-type]
        except (ProgramError, OverflowError):
            raise ProgramError(f"{where}: {_excerpt(node)} is too large a number") from None
    raise ProgramError(f"{where}: an argument is a variable or a number, not '{_excerpt(node)}': one call a statement")


def _excerpt(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


_SYMBOL_OF: dict[type[ast.operator], str] = {
    type(ast.parse(f"x {symbol} y", mode="eval").body.op): op  # type: ignore[attr-defined]
    for op, symbol in SYMBOLS.items()
}
