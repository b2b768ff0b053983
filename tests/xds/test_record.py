"""Records are dataclasses in all but when their code is compiled."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any

import pytest
from eastgate.xds.record import record


def declared(decorator: Any) -> tuple[Any, ...]:
    """The same classes, made by either."""

    @decorator
    class One:
        first: int
        second: tuple[str, ...] = ("a",)
        third: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
        fourth: int = field(default=4, init=False)

    @decorator
    class More(One):
        fifth: str = "e"

        def __post_init__(self) -> None:
            if not self.fifth:
                raise ValueError("no fifth")

    @decorator
    class Nothing:
        pass

    @decorator
    class Own:
        secret: str

        def __repr__(self) -> str:
            return "Own"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

    return One, More, Nothing, Own


PLAIN = declared(dataclass(frozen=True, slots=True))
RECORDS = declared(record)
PLAIN_MUTABLE = declared(dataclass(slots=True))
MUTABLE_RECORDS = declared(record(frozen=False))


@pytest.mark.parametrize("kinds", [PLAIN, RECORDS], ids=["dataclass", "record"])
def test_records_behave_as_frozen_dataclasses(kinds: tuple[Any, ...]) -> None:
    one, more, nothing, own = kinds
    made = one(1, third={"x": 1})
    assert repr(made) == "declared.<locals>.One(first=1, second=('a',), fourth=4)"
    assert made == one(first=1)
    assert hash(made) == hash(one(1))
    assert made != one(2)
    assert one(1).third is not one(1).third
    assert made != more(1)
    assert asdict(replace(made, first=3)) == {"first": 3, "second": ("a",), "third": {"x": 1}, "fourth": 4}
    assert [each.name for each in fields(more)] == ["first", "second", "third", "fourth", "fifth"]
    assert repr(more(1, fifth="f")) == "declared.<locals>.More(first=1, second=('a',), fourth=4, fifth='f')"
    assert (nothing(), repr(nothing())) == (nothing(), "declared.<locals>.Nothing()")
    assert (repr(own("s")), own("s") == own("t")) == ("Own", True)
    with pytest.raises(ValueError, match="no fifth"):
        more(1, fifth="")
    assert copy.deepcopy(made).third == {"x": 1}
    match made:
        case one(first, second):
            assert (first, second) == (1, ("a",))


@pytest.mark.parametrize("kinds", [PLAIN, RECORDS], ids=["dataclass", "record"])
def test_what_is_wrong_is_said_in_the_same_words(kinds: tuple[Any, ...]) -> None:
    one = kinds[0]
    with pytest.raises(TypeError, match=r"One\.__init__\(\) missing 1 required positional argument: 'first'"):
        one()
    with pytest.raises(TypeError, match=r"One\.__init__\(\) got an unexpected keyword argument 'fourth'"):
        one(1, fourth=4)
    made = one(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'first'"):
        made.first = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'first'"):
        del made.first
    with pytest.raises((FrozenInstanceError, TypeError)):
        made.other = 2
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("kinds", [PLAIN_MUTABLE, MUTABLE_RECORDS], ids=["dataclass", "record"])
def test_records_that_are_not_frozen_may_be_changed(kinds: tuple[Any, ...]) -> None:
    one, more, nothing, own = kinds
    made = one(1)
    made.first = 2
    assert made == one(2)
    assert made != more(2)
    assert repr(made) == "declared.<locals>.One(first=2, second=('a',), fourth=4)"
    assert one(1).third is not one(1).third
    assert replace(made, first=3).first == 3
    for unhashable in (made, nothing()):
        with pytest.raises(TypeError, match="unhashable type"):
            hash(unhashable)
    assert (repr(own("s")), own("s") == own("t")) == ("Own", True)
    assert copy.deepcopy(made) == made
    with pytest.raises(ValueError, match="no fifth"):
        more(1, fifth="")
    with pytest.raises(AttributeError):
        made.other = 2


@record(kw_only=True)
class Named:
    """At the place where pickle looks for it."""

    one: int = 1
    two: int


def test_fields_are_given_by_name_where_that_is_asked_for() -> None:
    assert Named(two=2).one == 1
    assert pickle.loads(pickle.dumps(Named(two=2))) == Named(two=2)
    with pytest.raises(TypeError, match="positional"):
        Named(1, 2)  # type: ignore[call-arg]


def test_nothing_is_compiled_before_the_first_one_is_made() -> None:
    @record
    class Late:
        first: int

    before = Late.__init__
    assert "first" not in before.__code__.co_varnames
    assert Late(1).first == 1
    assert Late.__init__.__code__.co_varnames == ("self", "first")
    assert Late.__init__.__qualname__.endswith("Late.__init__")


def test_a_record_without_words_is_not_inspected_for_some() -> None:
    @record
    class Wordless:
        first: int

    assert Wordless.__doc__ == "Wordless"
