"""Parameters of a planner as text, `candidates=16,horizon=6`, read into the frozen dataclass that holds them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Parameters = TypeVar("Parameters")


def read_parameters(kind: type[Parameters], text: str) -> Parameters:
    """An instance of dataclass `kind` from "name=value,name=value"; what is not named keeps its default.

    Values are of the field's type: int, float, or a tuple of floats, written 0.4/0.12. Fields that are dataclasses themselves
    are set by the names of their own fields. Raises ValueError on text of another form, unknown or repeated names, and values
    that are not of the type or that `kind` refuses.
    """
    given: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (item.strip() for item in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f"expected name=value, separated by commas, found {part!r}")
        if name in given:
            raise ValueError(f"{name}: given twice")
        given[name] = value
    unknown = sorted(set(given) - set(parameter_names(kind)))
    if unknown:
        raise ValueError(f"expected some of {', '.join(parameter_names(kind))}, found {', '.join(unknown)}")
    return _made(kind, given)


def parameter_names(kind: type) -> list[str]:
    """Names that `read_parameters` knows for a dataclass."""
    hints, names = get_type_hints(kind), []
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        names += parameter_names(inner) if _holds_fields(inner) else [field.name]
    return names


def require_positive(parameters: object, *names: str) -> None:
    """Raises ValueError where one of these numbers is not above zero."""
    for name in names:
        value = getattr(parameters, name)
        if not value > 0:
            raise ValueError(f"{name}: expected a positive number, found {value}")


def _holds_fields(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _made(kind: type[Parameters], given: Mapping[str, str]) -> Parameters:
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if _holds_fields(hint):
            values[name] = _made(hint, given)
        elif name in given:
            values[name] = _value(name, given[name], hint)
    return kind(**values)


def _value(name: str, text: str, hint: Any) -> Any:
    """The text as a value of the type; raises ValueError where it is none."""
    try:
        if get_origin(hint) is not tuple:
            return _number(text, hint)
        kinds, parts = get_args(hint), text.split("/")
        if kinds[-1] is not Ellipsis and len(parts) != len(kinds):
            raise ValueError
        return tuple(_number(part, kinds[0]) for part in parts)
    except ValueError:
        raise ValueError(f"{name}: expected {_told(hint)}, found {text!r}") from None


def _number(text: str, kind: type) -> Any:
    value = kind(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _told(hint: Any) -> str:
    if get_origin(hint) is not tuple:
        return {int: "a whole number", float: "a number"}[hint]
    kinds = get_args(hint)
    return "numbers separated by /" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers separated by /"
