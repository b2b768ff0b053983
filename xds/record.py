"""Records that are cheap to declare: dataclasses whose methods are not compiled before somebody needs them.

A proxy declares some hundred and fifty records when it starts, and makes few of them before it serves. A frozen
dataclass of the standard library compiles six functions when it is declared, another one three: a third of the CPU time
of imports. Here all records share what is not written for each, and each of the others is compiled when it is called
first; from then on it costs the same.

`fields`, `replace`, `asdict` and patterns of `match` work as with other dataclasses. Differences: a record cannot be
derived from a frozen dataclass of the standard library, or that from a record; and there is no InitVar.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_SET = object.__setattr__


@overload
def record(cls: type[T], /) -> type[T]: ...
@overload
def record(*, kw_only: bool = False, frozen: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(
    cls: type[T] | None = None, /, *, kw_only: bool = False, frozen: bool = True
) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class what `dataclass(frozen=True, slots=True)` makes of it, or without `frozen` its counterpart."""
    if cls is None:
        return lambda given: _made(given, kw_only, frozen)
    return _made(cls, kw_only, frozen)


def _made(given: type[T], kw_only: bool, frozen: bool) -> type[T]:
    # With __eq__ alone Python says that __hash__ is None.
    own = {name for name, value in vars(given).items() if value is not None}
    # Without one, a signature would be worked out to stand there.
    given.__doc__ = given.__doc__ or given.__name__
    made = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(given)
    shared, written = (_SHARED, _WRITTEN) if frozen else (_SHARED_BY_ALL, _WRITTEN_FOR_ALL)
    methods = {**shared, **{name: _first(made, name, writer) for name, writer in written.items()}}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


def _first(made: type, name: str, writer: Callable[[type, dict[str, Any]], str]) -> Callable[..., Any]:
    """What stands for a method until it is called: it is compiled then, and called."""

    def first(*args: Any, **named: Any) -> Any:
        known: dict[str, Any] = {}
        names: dict[str, Callable[..., Any]] = {}
        exec(writer(made, known), known, names)
        compiled = names[name]
        compiled.__qualname__ = f"{made.__qualname__}.{name}"
        setattr(made, name, compiled)
        return compiled(*args, **named)

    return first


def _init(made: Any, known: dict[str, Any]) -> str:
    """As the standard library writes it, and so the next two."""
    known |= {"_set": _SET, "_missing": MISSING}
    asked = [one for one in fields(made) if one.init]
    lines = [f" _set(self, {one.name!r}, {_value(one, known)})" for one in fields(made)]
    if hasattr(made, "__post_init__"):
        lines.append(" self.__post_init__()")
    named = [_parameter(one) for one in asked if one.kw_only]
    parameters = ["self", *(_parameter(one) for one in asked if not one.kw_only), *(["*", *named] if named else ())]
    return f"def __init__({', '.join(parameters)}):\n" + ("\n".join(lines) or " pass")


def _eq(made: Any, _: dict[str, Any]) -> str:
    mine, others = (_values(who, [one.name for one in fields(made) if one.compare]) for who in ("self", "other"))
    return (
        "def __eq__(self, other):\n if other.__class__ is not self.__class__:\n  return NotImplemented\n"
        f" return {mine} == {others}"
    )


def _hash(made: Any, _: dict[str, Any]) -> str:
    hashed = [one.name for one in fields(made) if (one.compare if one.hash is None else one.hash)]
    return f"def __hash__(self):\n return hash({_values('self', hashed)})"


def _values(who: str, names: list[str]) -> str:
    return f"({''.join(f'{who}.{name}, ' for name in names)})"


def _parameter(one: "Field[Any]") -> str:
    if one.default is not MISSING:
        return f"{one.name}=_default_{one.name}"
    return f"{one.name}=_missing" if one.default_factory is not MISSING else one.name


def _value(one: "Field[Any]", known: dict[str, Any]) -> str:
    """What a field becomes, and what that needs."""
    known[f"_default_{one.name}"] = one.default
    if one.default_factory is MISSING:
        return one.name if one.init else f"_default_{one.name}"
    known[f"_factory_{one.name}"] = one.default_factory
    made = f"_factory_{one.name}()"
    return f"{made} if {one.name} is _missing else {one.name}" if one.init else made


def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({shown})"


def _refuse_to_set(self: object, name: str, _: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[object]:
    return [getattr(self, one.name) for one in fields(self)]


def _take_state(self: Any, state: list[object]) -> None:
    for one, value in zip(fields(self), state, strict=True):
        _SET(self, one.name, value)


_SHARED_BY_ALL: dict[str, Any] = {"__repr__": _repr, "__hash__": None}
_SHARED: dict[str, Any] = {
    "__repr__": _repr,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _take_state,
}
# Methods that are written for each kind of record.
_WRITTEN_FOR_ALL: dict[str, Callable[[Any, dict[str, Any]], str]] = {"__init__": _init, "__eq__": _eq}
_WRITTEN = {**_WRITTEN_FOR_ALL, "__hash__": _hash}
