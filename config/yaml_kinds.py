"""What may stand at a place of a YAML file, by the type that the file is converted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import inspect


def kind_at(kind: inspect.Type, steps: Sequence[str]) -> inspect.Type | None:
    """What may stand at a place within something; None: nothing is known of it.

    Args:
        kind: of the whole.
        steps: names, and ``[0]`` in a list.
    """
    found: inspect.Type | None = kind
    for step in steps:
        found = next((inner for one in _choices(found) if (inner := _within(one, step)) is not None), None)
    return found


def _choices(kind: inspect.Type | None) -> tuple[inspect.Type, ...]:
    if isinstance(kind, inspect.Metadata):
        return _choices(kind.type)
    if isinstance(kind, inspect.UnionType):
        return tuple(one for each in kind.types for one in _choices(each))
    return () if kind is None else (kind,)


def _within(kind: inspect.Type, step: str) -> inspect.Type | None:
    is_place = step.startswith("[")
    if isinstance(kind, inspect.StructType) and not is_place:
        return next((field.type for field in kind.fields if field.encode_name == step), None)
    if isinstance(kind, inspect.DictType) and not is_place:
        return kind.value_type
    if isinstance(kind, inspect.ListType | inspect.VarTupleType | inspect.SetType) and is_place:
        return kind.item_type
    if isinstance(kind, inspect.TupleType) and is_place and int(step[1:-1]) < len(kind.item_types):
        return kind.item_types[int(step[1:-1])]
    return None


def fields_of(kind: inspect.Type | None) -> list[str]:
    """The keys that a struct has."""
    structs = [one for one in _choices(kind) if isinstance(one, inspect.StructType)]
    return [*dict.fromkeys(field.encode_name for struct in structs for field in struct.fields)]


def values_of(kind: inspect.Type | None) -> list[str]:
    """The words that may stand there, where only some may."""
    literals = [one for one in _choices(kind) if isinstance(one, inspect.LiteralType)]
    return sorted(str(value) for literal in literals for value in literal.values)


def _numbers(kind: inspect.Type | None) -> list[Any]:
    return [one for one in _choices(kind) if isinstance(one, inspect.IntType | inspect.FloatType)]


def is_share(kind: inspect.Type | None) -> bool:
    """Whether a number is one from 0 to 1."""
    return any(isinstance(one, inspect.FloatType) and 0 < (one.le or one.lt or 0) <= 1 for one in _numbers(kind))


def bounds_of(kind: inspect.Type | None) -> str:
    """What a number may be, in words."""
    for one in _numbers(kind):
        ends = (("above", one.gt), ("at least", one.ge), ("below", one.lt), ("at most", one.le))
        return ", ".join(f"{word} {end:g}" for word, end in ends if end is not None)
    return ""
