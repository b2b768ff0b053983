"""Columns, read and cut by row."""

from dataclasses import replace

import pytest
from eastgate.xds.columns import Columns, EndpointFlag, EndpointRow, Family, Health, Locality, LocalityEntry, columns_of
from eastgate.xds.decode import decode_assignment

from . import istiod as build


def pipe(path: bytes) -> bytes:
    return build.field(1, build.field(1, build.field(2, build.field(1, path))))


def mixed() -> Columns:
    first = [build.endpoint("10.0.0.1", 80, weight=3, tls_mode="istio"), pipe(b"/run/a\xff")]
    second = [build.endpoint("fd00::1", 81, health=3), pipe(b"/run/b")]
    localities = [
        build.locality_endpoints("r", first, weight=5),
        build.locality_endpoints("s", second, priority=1, weight=7),
    ]
    return decode_assignment(build.assignment("c", localities)).columns


def test_rows_are_read_one_by_one() -> None:
    columns = mixed()
    assert list(columns.family) == [Family.IPV4, Family.UNIX, Family.IPV6, Family.UNIX]
    assert columns.all_keys() == [("10.0.0.1", 80), ("/run/a\udcff", 0), ("fd00::1", 81), ("/run/b", 0)]
    assert [columns.key(row) for row in range(4)] == columns.all_keys()
    assert [columns.text(row) for row in range(4)] == ["10.0.0.1:80", "/run/a\ufffd", "[fd00::1]:81", "/run/b"]
    assert columns.packed(0) == b"\x0a\0\0\1" + bytes(12)
    assert columns.packed(1) == b"/run/a\xff"
    assert list(columns.weights) == [3, 1, 1, 1]
    assert [columns.entry(row).priority for row in range(4)] == [0, 0, 1, 1]
    assert list(columns.health) == [Health.HEALTHY, Health.UNKNOWN, Health.DRAINING, Health.UNKNOWN]
    assert list(columns.flags) == [EndpointFlag.TLS_MODE_ISTIO, 0, 0, 0]


def test_all_rows_are_read_at_once_as_one_by_one() -> None:
    columns = mixed()
    rows = range(columns.count)
    places = [(columns.packed(row), columns.ports[row], columns.family[row]) for row in rows]
    assert list(columns.all_packed()) == [columns.packed(row) for row in rows]
    assert list(columns.all_places()) == places
    assert list(columns.identities()) == [(*places[row], columns.entry(row).locality) for row in rows]


def test_places_are_found_by_the_bytes_that_stand_in_the_column() -> None:
    columns = mixed()
    stored = [columns.address[16 * row : 16 * (row + 1)] for row in range(columns.count)]
    assert [one[0] for one in columns.stored(columns.all_places())] == stored
    ((elsewhere, port, family),) = columns.stored([(b"/run/elsewhere", 0, Family.UNIX)])
    assert (len(elsewhere), port, family) == (16, 0, Family.UNIX)
    assert elsewhere not in stored


def test_places_and_identities_are_compared_without_what_moves() -> None:
    columns = mixed()
    heavier = replace(columns, weight=b"\x09\0\0\0" * columns.count, health=bytes(columns.count))
    assert columns.has_places_of(heavier)
    assert columns.has_identities_of(heavier)
    elsewhere = replace(columns, locality=bytes(2 * columns.count))
    assert columns.has_places_of(elsewhere)
    assert not columns.has_identities_of(elsewhere)
    assert not columns.has_places_of(columns.take((1, 0, 2, 3)))


def test_addresses_are_written_as_envoy_writes_them() -> None:
    """Envoy asks inet_ntop, which writes an IPv4 address inside of IPv6 with dots."""
    mapped = columns_of([EndpointRow(Family.IPV6, bytes(10) + b"\xff\xff\x0a\0\0\1", 80)])
    assert mapped.key(0) == ("::ffff:10.0.0.1", 80)
    assert mapped.text(0) == "[::ffff:10.0.0.1]:80"


def test_rows_are_taken_in_the_order_asked_for() -> None:
    columns = mixed()
    taken = columns.take((3, 0))
    assert (taken.count, taken.all_keys()) == (2, [("/run/b", 0), ("10.0.0.1", 80)])
    assert [taken.entry(row) for row in range(2)] == [columns.entry(3), columns.entry(0)]
    assert columns.take(range(4)) == columns
    assert columns.take(()).all_keys() == []


def test_rows_of_others_stand_behind_ones_own() -> None:
    columns = mixed()
    more = decode_assignment(
        build.assignment(
            "c", [build.locality_endpoints("t", [pipe(b"/run/c"), build.endpoint("10.0.0.9", 9)], weight=2)]
        )
    ).columns
    joined = columns.with_rows(more, (1, 0))
    assert joined.all_keys() == [*columns.all_keys(), ("10.0.0.9", 9), ("/run/c", 0)]
    # A locality that was not there has no weight: only an assignment of its own could say one.
    assert joined.entry(4) == LocalityEntry(more.entry(0).locality, 0, None)
    assert joined.entry(4) is joined.entry(5)
    # One that was there already keeps it.
    assert columns.with_rows(columns, (0,)).entry(4) == columns.entry(0)


def test_columns_are_built_as_the_reader_builds_them() -> None:
    read = mixed()
    rows = [
        EndpointRow(
            Family(read.family[row]),
            read.packed(row)[:4] if read.family[row] == Family.IPV4 else read.packed(row),
            read.ports[row],
            read.weights[row],
            read.health[row],
            read.entry(row).priority,
            read.entry(row).locality,
            read.flags[row],
        )
        for row in range(read.count)
    ]
    assert columns_of(rows, read.localities) == read
    # Places that nobody named come in the order of their endpoints, without a weight.
    assert columns_of(rows).localities == tuple(replace(one, weight=None) for one in read.localities)
    assert columns_of(iter(())).count == 0


FIRST, SECOND = (b"\x0a\0\0\1" + bytes(12), 80, 4), (b"\xfd" + bytes(14) + b"\1", 81, 6)


def dual() -> Columns:
    """Three endpoints: without, with one, and with two further addresses."""
    rows = [EndpointRow(Family.IPV4, bytes([10, 0, 1, one]), 80) for one in range(3)]
    return columns_of([rows[0], rows[1]._replace(further=(SECOND,)), rows[2]._replace(further=(FIRST, SECOND))])


def test_further_addresses_follow_their_rows() -> None:
    columns = dual()
    assert [columns.further_of(row) for row in range(3)] == [[], [SECOND], [FIRST, SECOND]]
    assert columns.further_texts(2) == ["10.0.0.1:80", "[fd00::1]:81"]
    taken = columns.take((2, 0))
    assert [taken.further_of(row) for row in range(2)] == [[FIRST, SECOND], []]
    assert columns.take(range(3)) == columns
    assert columns.take((0,)).further is None
    joined = mixed().with_rows(columns, (0, 1))
    assert [joined.further_of(row) for row in range(6)] == [[], [], [], [], [], [SECOND]]
    assert mixed().with_rows(mixed(), (0,)).further is None
    assert [columns.with_rows(mixed(), (0,)).further_of(row) for row in range(4)] == [[], [SECOND], [FIRST, SECOND], []]


def test_endpoints_are_the_same_whatever_their_further_addresses() -> None:
    columns = dual()
    assert columns.has_identities_of(replace(columns, further=None))
    assert columns != replace(columns, further=None)


@pytest.mark.parametrize("field", ["port", "weight", "priority"])
def test_number_that_does_not_fit_its_column_is_an_error(field: str) -> None:
    one = EndpointRow(Family.IPV4, bytes(4), locality=Locality("r"))
    with pytest.raises(OverflowError):
        columns_of([one._replace(**{field: 1 << 32})])
