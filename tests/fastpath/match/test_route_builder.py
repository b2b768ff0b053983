from dataclasses import replace

import pytest
from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

from .specs import chain, istio, served_by

CRITERIA = {
    "application_protocols",
    "destination_port",
    "destination_prefixes",
    "direct_source_prefixes",
    "server_names",
    "source_ports",
    "source_prefixes",
    "source_type",
}


def refused(*chains: ChainSpec, default: ChainSpec | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        RouteTable.compile(chains, default)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        ({"destination_port": 80}, {"destination_port": 80}),
        ({"transport_protocol": "tls"}, {"transport_protocol": "tls"}),
        ({"application_protocols": ("h2", "x")}, {"application_protocols": ("y", "h2")}),
        ({"server_names": ("a.b", "c.d")}, {"server_names": ("C.D", "e.f")}),
        ({"server_names": ("*.b",)}, {"server_names": ("*.b",)}),
        (
            {"server_names": ("a",), "transport_protocol": "raw_buffer"},
            {"server_names": ("a",), "transport_protocol": "raw_buffer"},
        ),
        # Bits behind the prefix are not looked at.
        ({"destination_prefixes": ((b"\x0a123", 8),)}, {"destination_prefixes": ((b"\x0a456", 8),)}),
        ({"direct_source_prefixes": ((b"\x0a123", 8),)}, {"direct_source_prefixes": ((b"\x0a456", 8),)}),
        ({"source_prefixes": ((bytes(16), 128),)}, {"source_prefixes": ((bytes(16), 0), (bytes(16), 128))}),
        ({"source_type": "EXTERNAL"}, {"source_type": "EXTERNAL"}),
        ({"source_ports": (1, 2)}, {"source_ports": (3, 2)}),
    ],
)
def test_same_criteria_twice(one, two):
    target = {"targets": ((0, 1),)}
    sentence = refused(ChainSpec("first", **one, **target), ChainSpec("second", **two, **target))
    assert "first and second match the same connections" in sentence


def test_name_or_protocol_twice_in_one_chain_is_once():
    assert served_by([istio("mesh", "a.b", "A.B")], server_name="a.b", application_protocols=("istio",)) == "mesh"
    twice = chain("h2", application_protocols=("h2", "h2"))
    assert served_by([twice], application_protocols=("h2",)) == "h2"


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "*.",
        "f*.x",
        "*x",
        "*x.y",
        "a.*",
        "a.*.b",
        "*.*.b",
        "**.b",
        "",
        " ",
        "a b",
        "a\x00",
        "a\n",
        "bücher.de",
        ".a.b",
        "*..b",
    ],
)
def test_server_names_that_are_none(name):
    assert "filter chain odd: server name" in refused(chain("fine", "a.b"), chain("odd", name))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"targets": ()}, "neither a cluster nor a refusal"),
        ({"targets": ((0, 0),)}, "weight 0 is not positive"),
        ({"targets": ((0, 1), (1, -1))}, "weight -1 is not positive"),
        ({"targets": ((2**32, 1),)}, "cluster slot 4294967296"),
        ({"targets": ((-1, 1),)}, "cluster slot -1"),
        ({"targets": ((0, 2**31), (1, 2**31))}, "sum past 4294967295"),
        ({"destination_port": 65536}, "destination port 65536"),
        ({"destination_port": -1}, "destination port -1"),
        ({"idle_timeout_ms": -1}, "timeout is negative"),
        ({"max_duration_ms": -1}, "timeout is negative"),
        ({"max_connect_attempts": 0}, "max_connect_attempts is 0, not positive"),
        ({"application_protocols": ("a" * 256,)}, "ALPN"),
        ({"application_protocols": ("",)}, "ALPN '' is not 1 to 255 bytes"),
        ({"server_names": ("a" * 65536,)}, "a server name of 65536 bytes"),
        ({"source_type": "LOCAL"}, "source type 'LOCAL'"),
        ({"source_ports": (0,)}, "source port 0"),
        ({"source_ports": (1, 65536)}, "source port 65536"),
        ({"destination_prefixes": ((bytes(4), 33),)}, "33 bits of 4 bytes are no prefix"),
        ({"source_prefixes": ((bytes(16), 129),)}, "129 bits of 16 bytes are no prefix"),
        ({"source_prefixes": ((bytes(4), -1),)}, "-1 bits of 4 bytes are no prefix"),
        ({"direct_source_prefixes": ((bytes(5), 8),)}, "8 bits of 5 bytes are no prefix"),
        ({"direct_source_prefixes": ((b"", 0),)}, "0 bits of 0 bytes are no prefix"),
    ],
)
def test_chains_that_cannot_be_compiled(fields, sentence):
    spec = replace(chain("odd", "x.y"), **fields)
    assert sentence in refused(chain("fine", "a.b"), spec)
    assert "filter chain odd" in refused(spec)
    if fields.keys() & CRITERIA:
        # Those of a default chain are not looked at.
        RouteTable.compile([], spec)
    else:
        assert sentence in refused(default=spec)


def test_limits_are_inclusive():
    slots = [chain("slots", targets=((2**32 - 1, 2**31), (0, 2**31 - 1)), destination_port=65535)]
    assert served_by(slots, destination_port=65535) == "slots"
    table = RouteTable.compile(slots)
    assert {table.target(0, draw) for draw in (2**31 - 1, 2**31)} == {2**32 - 1, 0}
    assert served_by([chain("times", idle_timeout_ms=2**70, max_duration_ms=2**70)]) == "times"
    assert served_by([chain("closed", refusal=Reason.POLICY)]) == "closed"


def test_what_two_chains_have_in_common_is_named():
    one = {"destination_port": 80, "destination_prefixes": ((bytes((10, 1, 2, 3)), 16),), "source_ports": (7, 8)}
    sentence = refused(chain("first", "a.b", "c.d", **one), chain("second", "e.f", "C.d", **one))
    assert sentence.endswith(" (destination port 80, destination prefix 10.1.0.0/16, server name c.d, source port 7)")
    assert refused(chain("first"), chain("second")).endswith("(those that no other chain takes)")


def test_what_differs_at_one_level_only_is_not_the_same():
    for one, two in (
        ({"source_ports": (1,)}, {"source_ports": (2,)}),
        ({"source_type": "EXTERNAL"}, {"source_type": "ANY"}),
        ({"source_prefixes": ((bytes(4), 0),)}, {"source_prefixes": ((bytes(16), 0),)}),
        ({"destination_prefixes": ((b"\x0a123", 9),)}, {"destination_prefixes": ((b"\x0a123", 8),)}),
    ):
        assert len(RouteTable.compile([chain("first", "a.b", **one), chain("second", "a.b", **two)])) == 2


def test_only_what_depends_on_the_destinations_address_asks_for_it():
    ten = ((b"\x0a\0\0\0", 8),)
    for fields in ({"destination_prefixes": ten}, {"source_type": "EXTERNAL"}):
        assert RouteTable.compile([chain("plain"), chain("asks", "a.b", **fields)]).asks_destination
    for fields in ({"source_prefixes": ten}, {"direct_source_prefixes": ten}, {"destination_port": 80}):
        assert not RouteTable.compile([chain("plain"), chain("asks", "a.b", **fields)]).asks_destination
    # The criteria of the default chain do not matter.
    assert not RouteTable.compile([chain("plain")], chain("default", destination_prefixes=ten)).asks_destination


def test_equal_decisions_are_written_once():
    ten = ((b"\x0a\0\0\0", 8), (b"\x0b\0\0\0", 8))

    def words(count):
        names = tuple(f"{number:04}" for number in range(count))
        return RouteTable.compile([chain("many", *names, source_prefixes=ten, source_ports=(1, 2))]).memory()

    # A name takes a place (at most 25 bytes) and its letters (12), not a decision of its own (60 more).
    assert words(3000) - words(1000) < 2000 * 38


def test_large_tables_are_compiled_in_slices():
    count = 1000
    names = [chain(str(n), f"{n}.example", destination_port=1 + n % 2) for n in range(count)]
    assert sum(1 for _ in RouteTable.steps(names)) >= 3 * (count // 128)
    ports = [chain(str(n), destination_port=1 + n) for n in range(count)]
    assert sum(1 for _ in RouteTable.steps(ports)) >= 3 * (count // 128)
