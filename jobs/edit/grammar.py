"""Reads an instruction in English or Chinese as a list of operations, or says which of its words it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jobs.edit.asked import Operation
from jobs.edit.clause import TABLE, Clause, NotUnderstood, named
from jobs.edit.lexer import Token, lex
from jobs.edit.readings import operation

__all__ = ["NotUnderstood", "parse"]

_AMOUNTS = ("extent", "ratio", "fraction", "percent", "degrees", "pixels", "steps", "factor", "number", "share")
_MODIFIERS = frozenset(
    (*_AMOUNTS, "quote", "degree", "size", "colour", "row", "column", "place", "sides", "axis", "turn", "shape")
)  # what may follow after a comma and still belong to the operation before it


def parse(instruction: str) -> list[Operation]:
    """The operations in their order, at least one.

    Raises NotUnderstood, in one line, for an empty instruction, for words that the grammar does not know, for two
    things asked in one breath, and for amounts that make no sense: nothing is left out silently.
    """
    if not instruction.strip():
        raise NotUnderstood("the instruction is empty: say what to change")
    tokens = [token for token in lex(instruction) if token.kind not in ("fill", "keep")]
    if unknown := [token.text for token in tokens if token.kind == "unknown"]:
        raise NotUnderstood(f"not understood in {_short(instruction)!r}: {named(unknown)}: {TABLE}")
    clauses = _shared(_clauses(tokens))
    if not clauses:
        raise NotUnderstood(f"{_short(instruction)!r} names nothing to change: {TABLE}")
    return [operation(clause) for clause in clauses]


def _clauses(tokens: Sequence[Token]) -> list[Clause]:
    """The parts between "and", "then" and commas; a part that only says more of the one before it is put to that."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "join":
            parts.append([])
        else:
            parts[-1].append(token)
    clauses: list[Clause] = []
    waiting: list[Token] = []
    for part in filter(None, parts):
        clause = Clause([*waiting, *part])
        if not clause.only(_MODIFIERS | {"direction"}):
            clauses.append(clause)
            waiting = []
        elif clauses and not waiting and not any(clauses[-1].has(token.kind) for token in part):
            clauses[-1].tokens += part
        elif clauses and clauses[-1].has("axis") and clause.has("axis"):  # "flip horizontally and vertically"
            verbs = [token for token in clauses[-1].tokens if token.kind == "operation"]
            clauses.append(Clause([*verbs, *part]))
        else:
            waiting = clause.tokens
    if waiting:
        raise NotUnderstood(f"{Clause(waiting).words!r} does not say what to change: {TABLE}")
    return clauses


def _shared(clauses: list[Clause]) -> list[Clause]:
    """Gives "increase brightness and contrast by 20%" its direction and amount for both."""
    amounts = ("percent", "share", "factor", "fraction", "degree")
    for before, after in pairwise(clauses):
        if _bare(after) and before.has("direction"):
            after.tokens = [*(token for token in before.tokens if token.kind == "direction"), *after.tokens]
            if not before.has(*amounts):
                before.tokens += [token for token in after.tokens if token.kind in (*amounts, "to")]
    for after, before in pairwise(reversed(clauses)):
        if _bare(before) and after.has("direction") and after.has("attribute"):
            before.tokens += [token for token in after.tokens if token.kind in ("direction", "to", *amounts)]
    return clauses


def _bare(clause: Clause) -> bool:
    """Whether it names an attribute and does not say what shall become of it."""
    return clause.has("attribute") and not clause.has("direction", "operation", "to", "factor")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
