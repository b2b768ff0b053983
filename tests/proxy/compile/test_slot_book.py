"""Slots by name: who takes and gives back, and views that go with the last one who asks for them."""

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.listener_plan import view_name
from eastgate.proxy.compile.slot_book import SlotBook

PROD = (("stage", '"prod"'),)


def test_slot_goes_with_the_last_release() -> None:
    slots = ClusterSlots(4)
    book = SlotBook(slots)
    assert book.take("a") == book.take("a")
    book.release(["a"])
    assert "a" in slots
    book.release(["a"])
    assert "a" not in slots


def test_view_is_known_as_long_as_somebody_holds_it() -> None:
    slots = ClusterSlots(4)
    book = SlotBook(slots)
    slot = book.take("a")
    view = book.take_view("a", PROD, slot)
    assert book.take_view("a", PROD, slot) == view
    assert book.views("a") == {PROD: view}
    book.release([view_name("a", PROD)])
    assert book.views("a") == {PROD: view}
    book.release([view_name("a", PROD), "a"])
    assert book.views("a") == {}
    assert len(slots) == 0


def test_cluster_without_views_has_none() -> None:
    assert SlotBook(ClusterSlots(4)).views("unknown") == {}


def test_no_slot_left_is_a_value_error() -> None:
    book = SlotBook(ClusterSlots(1))
    book.take("a")
    with pytest.raises(ValueError, match="slot"):
        book.take("b")
