"""What the reader of assignments makes of each field, and what it refuses to make anything of."""

import struct

import pytest
from eastgate.xds.assignment import decode_assignment, read_text
from eastgate.xds.columns import Columns, host_text
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Locality, LocalityEntry

from ..support.encoded import field
from .istiod import assignment, endpoint, locality_endpoints, number_field, socket_address
from .rows import rows_of


def lb_endpoint(address: bytes) -> bytes:
    """An LbEndpoint around an Address."""
    return field(1, field(1, address))


def one(lb: bytes) -> bytes:
    return assignment("c", [locality_endpoints("r", [lb])])


def test_endpoints_come_in_message_order_with_their_columns() -> None:
    decoded = decode_assignment(
        assignment(
            "c",
            [
                locality_endpoints("r1", [endpoint("10.0.0.2", 80, weight=7, health=2, tls_mode="istio")], weight=9),
                locality_endpoints("", [endpoint("2001:db8::1", 65535, tls_mode="disabled")], priority=1, weight=3),
            ],
        )
    )
    assert decoded.cluster_name == "c"
    assert rows_of(decoded.columns) == [
        ("10.0.0.2", 80, 7, 2, 0, Locality("r1"), True),
        ("2001:db8::1", 65535, 1, 1, 1, Locality(), False),
    ]
    # The second entry has no locality, so its weight does not count.
    assert decoded.columns.localities == (LocalityEntry(Locality("r1"), 0, 9), LocalityEntry(Locality(), 1, None))
    assert (decoded.overprovisioning_factor, decoded.weighted_priority_health) == (140, False)
    assert decoded.endpoint_stale_after_s == 0.0


def test_entries_of_one_priority_and_locality_are_merged_and_the_last_weight_wins() -> None:
    decoded = decode_assignment(
        assignment(
            "c",
            [
                locality_endpoints("r1", [endpoint("10.0.0.1")], weight=1),
                locality_endpoints("r1", [endpoint("10.0.0.2")], priority=1, weight=2),
                locality_endpoints("r1", [endpoint("10.0.0.3")], weight=5),
                locality_endpoints("r1", [endpoint("10.0.0.4")]),
            ],
        )
    )
    assert decoded.columns.localities == (LocalityEntry(Locality("r1"), 0, 5), LocalityEntry(Locality("r1"), 1, 2))
    assert struct.unpack("=4H", decoded.columns.locality) == (0, 1, 0, 0)


def test_locality_without_endpoints_stays() -> None:
    columns = decode_assignment(assignment("c", [locality_endpoints("r1", [], weight=4)])).columns
    assert (columns.count, columns.localities) == (0, (LocalityEntry(Locality("r1"), 0, 4),))


def test_empty_assignment_has_no_endpoints() -> None:
    columns = decode_assignment(assignment("c", [])).columns
    assert (columns.count, columns.localities, columns.address) == (0, (), b"")


def test_missing_weight_is_one_and_missing_health_is_unknown() -> None:
    (row,) = rows_of(decode_assignment(one(lb_endpoint(socket_address("1.2.3.4", 1)))).columns)
    assert (row.weight, row.health) == (1, 0)


def test_priorities_may_have_gaps_up_to_127() -> None:
    decoded = decode_assignment(assignment("c", [locality_endpoints("r", [endpoint("1.1.1.1")], priority=127)]))
    assert decoded.columns.priority == b"\x7f"


def test_first_of_equal_addresses_stays_over_all_localities() -> None:
    decoded = decode_assignment(
        assignment(
            "c",
            [
                locality_endpoints("r1", [endpoint("10.0.0.1", 80, weight=3), endpoint("10.0.0.1", 81)]),
                locality_endpoints("r2", [endpoint("10.0.0.1", 80), endpoint("::a00:1", 80)], priority=1),
            ],
        )
    )
    assert [(row.address, row.port, row.weight) for row in rows_of(decoded.columns)] == [
        ("10.0.0.1", 80, 3),
        ("10.0.0.1", 81, 1),
        ("::a00:1", 80, 1),
    ]


def test_equal_addresses_of_a_cluster_itself_are_one_endpoint_with_the_weight_of_all() -> None:
    """Of one priority and health: an endpoint of another priority is another one, and a failed one is not picked."""
    localities = [
        locality_endpoints("r1", [endpoint("10.0.0.1", 80, weight=3), endpoint("10.0.0.2", 80)]),
        locality_endpoints("r2", [endpoint("10.0.0.1", 80, weight=2), endpoint("10.0.0.2", 80, weight=7, health=2)]),
        locality_endpoints("r1", [endpoint("10.0.0.1", 80, weight=9)], priority=1),
    ]
    for kind in ("CDS", "DNS"):
        columns = decode_assignment(assignment("c", localities), kind, "c").columns
        assert [(row.address, row.weight) for row in rows_of(columns)] == [("10.0.0.1", 5), ("10.0.0.2", 1)]


def test_weights_of_equal_addresses_are_united_up_to_what_a_column_holds() -> None:
    most = 2**32 - 1
    localities = [
        locality_endpoints("r1", [endpoint("10.0.0.1", 80, weight=most)]),
        locality_endpoints("r2", [endpoint("10.0.0.1", 80, weight=2)]),
    ]
    (row,) = rows_of(decode_assignment(assignment("c", localities), "CDS", "c").columns)
    assert row.weight == most


def test_socket_paths_are_named() -> None:
    pipes = [lb_endpoint(field(2, field(1, path))) for path in (b"/run/a", b"@b", b"/run/a")]
    columns = decode_assignment(assignment("c", [locality_endpoints("r", pipes)])).columns
    assert columns.names == (b"/run/a", b"@b")
    assert [row.address for row in rows_of(columns)] == ["unix:/run/a", "unix:@b"]


def test_policy() -> None:
    policy = field(3, number_field(1, 200)) + field(4, number_field(1, 5) + number_field(2, 500_000_000))
    decoded = decode_assignment(assignment("c", [], policy + number_field(6, 1)))
    assert decoded.overprovisioning_factor == 200
    assert decoded.endpoint_stale_after_s == 5.5
    assert decoded.weighted_priority_health


def several(*addresses: bytes) -> bytes:
    """An LbEndpoint around Addresses, of which the first is that of the endpoint."""
    first, *further = addresses
    return field(1, field(1, first) + b"".join(field(4, field(1, address)) for address in further))


def further(columns: Columns) -> list[list[str]]:
    """By row, as text."""
    return [
        [f"{host_text(packed, family)} {port}" for packed, port, family in columns.further_of(row)]
        for row in range(columns.count)
    ]


def test_further_addresses_stand_beside_the_rows_of_their_endpoints() -> None:
    single = lb_endpoint(socket_address("10.0.0.9", 80))
    dual = several(socket_address("10.0.0.1", 80), socket_address("fd00::1", 81), socket_address("10.0.1.1", 82))
    six = several(socket_address("fd00::2", 80), socket_address("10.0.0.2", 83))
    localities = [locality_endpoints("r", [single, dual]), locality_endpoints("s", [six])]
    decoded = decode_assignment(assignment("c", localities))
    assert [row[0] for row in rows_of(decoded.columns)] == ["10.0.0.9", "10.0.0.1", "fd00::2"]
    assert further(decoded.columns) == [[], ["fd00::1 81", "10.0.1.1 82"], ["10.0.0.2 83"]]
    assert [entry.locality.region for entry in decoded.columns.localities] == ["r", "s"]
    # Where nobody has any there is nothing.
    assert decode_assignment(one(single)).columns.further is None


def test_an_endpoint_that_is_dropped_takes_its_further_addresses_along() -> None:
    first = several(socket_address("10.0.0.1", 80), socket_address("fd00::1", 80))
    again = several(socket_address("10.0.0.1", 80), socket_address("fd00::2", 80))
    other = several(socket_address("10.0.0.3", 80), socket_address("fd00::3", 80))
    decoded = decode_assignment(assignment("c", [locality_endpoints("r", [first, again, other])]))
    assert further(decoded.columns) == [["fd00::1 80"], ["fd00::3 80"]]


PATH = field(2, field(1, b"/run/a"))


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ((socket_address("10.0.0.1", 80), socket_address("b.example", 80)), "must be an IP address, not 'b.example'"),
        ((socket_address("10.0.0.1", 80), socket_address("fd00::1", 65536)), "port is above 65535"),
        ((socket_address("10.0.0.1", 80), b""), "has no address"),
        ((socket_address("10.0.0.1", 80), PATH), "has a socket path among its addresses"),
        ((PATH, socket_address("10.0.0.1", 80)), "has a socket path among its addresses"),
    ],
)
def test_impossible_further_addresses_are_refused(addresses: tuple[bytes, ...], reason: str) -> None:
    with pytest.raises(XdsError, match=reason):
        decode_assignment(one(several(*addresses)))


def test_a_further_address_that_is_cut_off_is_malformed() -> None:
    whole = several(socket_address("10.0.0.1", 80), socket_address("fd00::1", 80))
    cut = field(1, field(1, socket_address("10.0.0.1", 80)) + field(4, field(1, socket_address("fd00::1", 80))[:-1]))
    assert further(decode_assignment(one(whole)).columns) == [["fd00::1 80"]]
    with pytest.raises(XdsError) as refused:
        decode_assignment(one(cut))
    assert refused.value.malformed


def test_metadata_value_may_stand_before_its_key() -> None:
    mode = field(1, field(2, field(3, b"istio")) + field(1, b"tlsMode"))
    metadata = field(3, field(1, field(2, mode) + field(1, b"envoy.transport_socket_match")))
    lb = lb_endpoint(socket_address("1.2.3.4", 1)) + metadata
    assert rows_of(decode_assignment(one(lb)).columns)[0].tls_mode_istio


def test_later_occurrences_continue_a_message() -> None:
    """Protobuf merges two occurrences of a sub-message; two kinds of address exclude each other."""
    host = field(1, field(1, field(1, field(2, b"1.2.3.4")))) + field(1, field(1, field(1, number_field(3, 9))))
    assert rows_of(decode_assignment(one(host)).columns)[0][:2] == ("1.2.3.4", 9)
    switched = lb_endpoint(socket_address("1.2.3.4", 9) + field(2, field(1, b"/s")))
    assert rows_of(decode_assignment(one(switched)).columns)[0].address == "unix:/s"


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "255.255.255.255", "1.2.3.4", "::", "::1", "fe80::1", "2001:db8:1:2:3:4:5:6", "::ffff:1.2.3.4"],
)
def test_ip_addresses_are_read(address: str) -> None:
    from ipaddress import ip_address

    (row,) = rows_of(decode_assignment(one(lb_endpoint(socket_address(address, 1)))).columns)
    assert ip_address(row.address) == ip_address(address)


@pytest.mark.parametrize(
    "address",
    ["a.example", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1..2.3", "1.2.3.4\0",
     ":::", "fe80::1%eth0", "1:2", "::1\0", "12345::", "localhost", ".", "1.2.3.", "0x1.2.3.4"],
)  # fmt: skip
def test_what_is_no_ip_address_rejects_the_assignment_by_name(address: str) -> None:
    with pytest.raises(XdsError) as caught:
        decode_assignment(one(lb_endpoint(socket_address(address, 1))))
    assert (caught.value.kind, caught.value.resource) == ("EDS", "c")
    assert caught.value.reason.startswith(f"an endpoint's address must be an IP address, not {address!r}")


@pytest.mark.parametrize(
    ("lb", "reason"),
    [
        (lb_endpoint(field(1, field(2, b"1.2.3.4") + field(4, b"http"))), "an endpoint has a named port"),
        (lb_endpoint(field(1, field(2, b"1.2.3.4"))), "an endpoint has no port"),
        (lb_endpoint(socket_address("1.2.3.4", 65536)), "an endpoint's port is above 65535"),
        (lb_endpoint(socket_address("", 1)), "an endpoint's address is empty"),
        (lb_endpoint(field(1, number_field(1, 1) + field(2, b"1.2.3.4") + number_field(3, 1))), "protocol is not TCP"),
        (lb_endpoint(field(3, b"")), "an endpoint is an internal listener"),
        (lb_endpoint(field(2, b"")), "an endpoint's socket path is empty"),
        (field(5, b"name"), "an endpoint has no address"),
        (endpoint("1.2.3.4", health=6), "unknown health status"),
        (endpoint("1.2.3.4", weight=0), "an endpoint's weight is 0"),
    ],
)
def test_endpoints_that_cannot_be_honoured_reject_the_assignment(lb: bytes, reason: str) -> None:
    with pytest.raises(XdsError, match=reason):
        decode_assignment(one(lb))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (locality_endpoints("r", [], priority=128), "a priority is above 127"),
        (locality_endpoints("r", [], weight=0), "a locality's weight is 0"),
        (locality_endpoints("r", []) + field(8, b""), "a locality takes its endpoints from LEDS"),
    ],
)
def test_localities_that_cannot_be_honoured_reject_the_assignment(entry: bytes, reason: str) -> None:
    with pytest.raises(XdsError, match=reason):
        decode_assignment(assignment("c", [entry]))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (field(3, b""), "overprovisioning_factor is 0"),
        (field(4, b""), "endpoint_stale_after is not a positive duration"),
        (field(4, number_field(1, 2**64 - 1)), "endpoint_stale_after is not a positive duration"),
        (field(4, number_field(2, 1_000_000_000)), "endpoint_stale_after is not a positive duration"),
    ],
)
def test_policies_that_envoy_rejects(policy: bytes, reason: str) -> None:
    with pytest.raises(XdsError, match=reason):
        decode_assignment(assignment("c", [], policy))


def test_endpoint_weights_of_a_priority_must_sum_in_32_bits() -> None:
    half = 2**31
    fits = [locality_endpoints("r1", [endpoint("1.1.1.1", weight=half), endpoint("1.1.1.2", weight=half - 1)])]
    assert decode_assignment(assignment("c", fits)).columns.count == 2
    more = [*fits, locality_endpoints("r2", [endpoint("1.1.1.3", weight=1)])]
    with pytest.raises(XdsError) as caught:
        decode_assignment(assignment("c", more))
    assert caught.value.reason == "locality r2: endpoint weights of priority 0 sum past 2^32-1"
    elsewhere = [*fits, locality_endpoints("r2", [endpoint("1.1.1.3", weight=1)], priority=1)]
    assert decode_assignment(assignment("c", elsewhere)).columns.count == 3


def test_locality_weights_of_a_priority_must_sum_in_32_bits() -> None:
    entries = [locality_endpoints("r1", [], weight=2**32 - 1), locality_endpoints("r2", [], weight=1)]
    with pytest.raises(XdsError, match="locality r2: locality weights of priority 0 sum past"):
        decode_assignment(assignment("c", entries))


def test_broken_bytes_name_resource_and_offset() -> None:
    # cluster_name "c" takes 3 bytes; the tag of endpoints stands at byte 3 and promises 127 bytes that are not there.
    with pytest.raises(XdsError) as caught:
        decode_assignment(b"\x0a\x01c\x12\x7f")
    assert str(caught.value) == "EDS c rejected: malformed message (byte 3)"


def test_kind_and_resource_of_the_error_may_be_given() -> None:
    with pytest.raises(XdsError, match="CDS static rejected: malformed message"):
        decode_assignment(b"\xff", "CDS", "static")


def test_text_that_is_not_utf8_is_malformed() -> None:
    with pytest.raises(XdsError, match="malformed text"):
        decode_assignment(assignment("c", [field(1, field(1, b"\xff"))]))


def test_read_text_answers_what_it_can() -> None:
    assert read_text(field(1, b"name") + b"\xff", 1) == "name"
    assert read_text(field(2, b"x") + field(1, b"a") + field(1, b"b"), 1) == "b"
    assert read_text(b"\x0a\x7f", 1) == ""
    assert read_text(field(1, b"\xff"), 1) == "\ufffd"
