"""Which clusters are no longer reached at an address, and are at another one."""

from eastgate.proxy.moved_places import KEPT, MovedPlaces

OLD, NEW, THIRD = b"\xf0\xf0\0\1", b"\xf0\xf0\0\2", b"\xf0\xf0\0\3"
DB, WEB = 5, 6


def at(*places: tuple[int, bytes, int]) -> frozenset[tuple[int, bytes, int]]:
    return frozenset(places)


def test_a_cluster_moves_with_its_listener_or_within_one() -> None:
    places = MovedPlaces()
    places.note({"old": at((DB, OLD, 80)), "web": at((WEB, THIRD, 80), (WEB, THIRD, 81))})
    assert places.moved == ()
    places.note({"old": at(), "new": at((DB, NEW, 80))})
    assert places.moved == ((DB, OLD, 80),)
    places.note({"web": at((WEB, NEW, 80), (WEB, THIRD, 81))})
    assert set(places.moved) == {(DB, OLD, 80), (WEB, THIRD, 80)}


def test_what_is_led_elsewhere_has_not_moved() -> None:
    places = MovedPlaces()
    # Both lead to DB; then one does not.
    places.note({"one": at((DB, OLD, 80)), "two": at((DB, NEW, 80))})
    places.note({"one": at((WEB, OLD, 80))})
    assert places.moved == ()
    # Another port is another service.
    places.note({"two": at((DB, NEW, 81))})
    assert places.moved == ()


def test_two_that_change_places_have_both_moved() -> None:
    places = MovedPlaces()
    places.note({"one": at((DB, OLD, 80)), "two": at((WEB, NEW, 80))})
    places.note({"one": at((WEB, OLD, 80)), "two": at((DB, NEW, 80))})
    assert set(places.moved) == {(DB, OLD, 80), (WEB, NEW, 80)}


def test_it_is_known_for_as_long_as_the_cluster_is_reached_there() -> None:
    places = MovedPlaces()
    places.note({"db": at((DB, OLD, 80))})
    for host in (NEW, THIRD):
        places.note({"db": at((DB, host, 80))})
    assert set(places.moved) == {(DB, OLD, 80), (DB, NEW, 80)}
    places.note({"db": at((DB, OLD, 80))})
    assert set(places.moved) == {(DB, NEW, 80), (DB, THIRD, 80)}
    places.note({"db": at()})
    assert places.moved == ()


def test_the_newest_are_kept() -> None:
    places = MovedPlaces()
    for number in range(KEPT + 10):
        places.note({"db": at((DB, number.to_bytes(4, "big"), 80))})
    assert len(places.moved) == KEPT
    assert (DB, bytes(4), 80) not in places.moved
