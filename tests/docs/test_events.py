"""docs/operations.md names each kind of event that the code writes down, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("catalog", "cluster", "compose", "s3front")
KIND = re.compile(r"[a-z]+(-[a-z]+)*")
OPERATIONS = ("recovery", "drain", "scrub")
STATES = ("up", "suspect", "down")
WRITTEN_BY_SQL = {"catalog-moved"}
"""Into a catalog that nobody has open (catalog/moving.py)."""


def _written_in(tree: ast.Module) -> Iterator[str]:
    """Kinds as the calls of record_event have them: a text, a name that stands for one, or made of two parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "record_event" and len(node.args) > 1:
            yield from _kinds(tree, node.args[1])


def _kinds(tree: ast.Module, kind: ast.expr, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    match kind:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _kinds(tree, kind.body, seen)
            yield from _kinds(tree, kind.orelse, seen)
        case ast.JoinedStr(values=[_, ast.Constant(value=str(end))]):
            yield from (f"{operation}{end}" for operation in OPERATIONS)
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), _]):
            yield from (f"{start}{state}" for state in STATES)
        case ast.JoinedStr():  # of an operation and its state
            yield from (
                f"{operation}-{end}" for operation in OPERATIONS for end in ("done", "failed", "cancelled")
            )
        case ast.Name(id=name) if name in seen:
            pass  # handed on under the same name
        case ast.Name(id=name):
            found = [text for value in _values(tree, name) for text in _kinds(tree, value, seen | {name})]
            assert found or seen, f"what is {name} in line {kind.lineno}?"
            yield from found
        case _:
            raise AssertionError(ast.unparse(kind))


def _values(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """What a name is given: by assignment, as an argument, or as the first of a pair in a list that is looped over."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=given)], value=value) if given == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=given), value=ast.expr() as value) if given == name:
                yield value
            case ast.For(target=ast.Tuple(elts=[ast.Name(id=given), *_]), iter=ast.Name(id=pairs)) if (
                given == name
            ):
                yield from _firsts(tree, pairs)
            case ast.FunctionDef(args=arguments):
                places = [each.arg for each in arguments.args if each.arg not in {"self", "cls"}]
                for call in _calls(tree, node.name):
                    yield from (each.value for each in call.keywords if each.arg == name)
                    yield from (value for at, value in zip(places, call.args, strict=False) if at == name)


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) == name)


def _firsts(tree: ast.Module, pairs: str) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and _in_list(tree, pairs, node):
            yield node.elts[0]


def _in_list(tree: ast.Module, name: str, pair: ast.Tuple) -> bool:
    return any(
        pair in call.args and ast.unparse(call.func) == f"{name}.{how}"
        for how in ("append", "insert")
        for call in _calls(tree, how)
    )


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def written() -> set[str]:
    """All kinds that the code writes down."""
    found = set(WRITTEN_BY_SQL)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if "record_event(" in text and not path.match("catalog/work.py"):
                found.update(_written_in(ast.parse(text)))
    return found


def told() -> set[str]:
    """Those in the table of docs/operations.md; its `…-done` stand for each operation's."""
    table = (ROOT / "docs/operations.md").read_text().partition("| event | means |")[2].partition("\n\n")[0]
    found = set()
    for line in table.splitlines()[2:]:
        for word in re.findall(r"`([^`]+)`", line.split("|")[1]):
            found |= {f"{each}{word[1:]}" for each in OPERATIONS} if word.startswith("…") else {word}
    return found


def test_every_kind_of_event_is_in_the_document() -> None:
    """Red with a line of the table taken out, and with a kind in it that nobody writes."""
    assert all(KIND.fullmatch(kind) for kind in written())
    assert sorted(written() - told()) == []
    assert sorted(told() - written()) == []
