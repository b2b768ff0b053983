"""What ends by itself, and when."""

from eastgate.xds.deadlines import Deadlines, Key, Kind
from eastgate.xds.decode import CDS, LDS

A, B = Key(Kind.TTL, CDS, "a"), Key(Kind.TTL, CDS, "b")


def test_nothing_ends_without_a_deadline() -> None:
    deadlines = Deadlines()
    assert (bool(deadlines), deadlines.next_s, deadlines.due(1e9)) == (False, None, [])


def test_each_key_ends_once_at_its_time() -> None:
    deadlines = Deadlines()
    deadlines.set(A, 5.0)
    deadlines.set(B, 7.0)
    assert deadlines.next_s == 5.0
    assert deadlines.due(4.9) == []
    assert deadlines.due(5.0) == [A]
    assert deadlines.due(100.0) == [B]
    assert deadlines.due(100.0) == []


def test_set_begins_anew_and_begin_does_not() -> None:
    deadlines = Deadlines()
    deadlines.begin(A, 5.0)
    deadlines.begin(A, 9.0)
    assert deadlines.next_s == 5.0
    deadlines.set(A, 9.0)
    assert deadlines.next_s == 9.0
    deadlines.clear(A)
    deadlines.clear(A)
    assert not deadlines


def test_retain_looks_at_one_kind_and_type() -> None:
    deadlines = Deadlines()
    others = [Key(Kind.FETCH, CDS, "a"), Key(Kind.TTL, LDS, "a")]
    for key in (A, B, *others):
        deadlines.set(key, 1.0)
    deadlines.retain(Kind.TTL, CDS, {"b"})
    assert set(deadlines.due(1.0)) == {B, *others}
