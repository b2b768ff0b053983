"""Random filter chains and hellos: the compiled table against the oracle and the rules for mesh services."""

from collections.abc import Sequence
from typing import Any

import pytest
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from hypothesis import given, settings
from hypothesis import strategies as st

from ..oracle import filter_chain

NAMES = ("a.b", "b", "c.a.b", "x.c.a.b", "outbound_.80_._.a.b", "outbound_.81_.v1_.c.a.b", "A.B")
WILDCARDS = ("*.b", "*.a.b", "*.c.a.b")
PROTOCOLS = ("h2", "http/1.1", "istio", "istio-h2", "ISTIO")

specs = st.builds(
    ChainSpec,
    name=st.sampled_from("klmnopq"),
    destination_port=st.sampled_from((0, 0, 0, 80, 443)),
    server_names=st.lists(st.sampled_from(NAMES + WILDCARDS), max_size=3).map(tuple),
    transport_protocol=st.sampled_from(("", "", "tls", "raw_buffer")),
    application_protocols=st.lists(st.sampled_from(PROTOCOLS), max_size=3).map(tuple),
    targets=st.just(((1, 1),)),
    refusal=st.sampled_from((Reason.NONE, Reason.NONE, Reason.POLICY)),
)


def criteria(spec: ChainSpec) -> set[tuple[int, str, str, str]]:
    return {
        (spec.destination_port, name.lower(), spec.transport_protocol, protocol)
        for name in spec.server_names or ("",)
        for protocol in spec.application_protocols or ("",)
    }


def allowed(
    chains: Sequence[ChainSpec], default: bool, server_name: str, offered: Sequence[str], tls: bool, port: int
) -> set[int]:
    """What the table may answer: one chain, or the reasons that fit."""
    rows: list[dict[str, Any]] = [
        {
            "name": index,
            "destination_port": spec.destination_port,
            "server_names": [name.lower() for name in spec.server_names],
            "transport_protocol": spec.transport_protocol,
            "application_protocols": spec.application_protocols,
        }
        for index, spec in enumerate(chains)
    ]
    # Equal criteria are legal only when one of the chains refuses: it wins, the first of several.
    rows.sort(key=lambda row: not chains[row["name"]].refusal)
    mesh_service = tls and server_name.startswith("outbound_.")
    if mesh_service:
        exact_port = [row for row in rows if row["destination_port"] == port]
        rows = exact_port or [row for row in rows if not row["destination_port"]]
        rows = [row for row in rows if server_name in row["server_names"]]
        if not rows:
            return {-Reason.UNKNOWN_SERVER_NAME}
        if not set(offered) & set(ISTIO_ALPN):
            return {-Reason.ALPN_MISMATCH}
    # A connection without TLS has no server name.
    found = filter_chain.match(
        rows,
        port=port,
        sni=server_name if tls else "",
        transport="tls" if tls else "raw_buffer",
        alpn=offered,
    )
    if found is not None:
        return {int(found)}
    if default and not mesh_service:
        return {len(chains)}
    if not tls:
        return {-Reason.NOT_TLS}
    return {-Reason.ALPN_MISMATCH, -Reason.UNKNOWN_SERVER_NAME} if server_name else {-Reason.NO_SNI}


@settings(max_examples=500, deadline=None)
@given(
    st.lists(specs, max_size=6),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(("", "y.b", "d.c.a.b", "z", "outbound_.80_._.other.b", *(name.lower() for name in NAMES))),
            st.lists(st.sampled_from(PROTOCOLS), max_size=3),
            st.booleans(),
            st.sampled_from((0, 80, 443, 8080)),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_table_follows_the_rules(chains, default, connections):
    clash = any(
        criteria(one) & criteria(two) and not (one.refusal or two.refusal)
        for index, one in enumerate(chains)
        for two in chains[:index]
    )
    fallback = ChainSpec("default", targets=((1, 1),)) if default else None
    if clash and not any(spec.refusal for spec in chains):
        with pytest.raises(ValueError, match="match the same connections"):
            RouteTable.compile(chains, fallback)
        return
    try:
        table = RouteTable.compile(chains, fallback)
    except ValueError:
        if clash:
            return
        raise
    for server_name, offered, tls, port in connections:
        found = table.match(
            Observed(
                server_name=server_name if tls else "",
                application_protocols=offered,
                tls=tls,
                destination_port=port,
            )
        )
        assert found in allowed(chains, default, server_name, offered, tls, port)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=4), st.text(max_size=300))
def test_any_name_compiles_or_is_a_value_error(names, asked):
    chain = ChainSpec("odd", server_names=tuple(names), targets=((0, 1),))
    try:
        table = RouteTable.compile([chain])
    except ValueError:
        assert any(not name or not name.isascii() or not name.isprintable() or set(name) & set("* .") for name in names)
        return
    if len(asked.lower().encode("utf-8", "surrogatepass")) < 256 and asked.isascii():
        table.match(Observed(server_name=asked))
        assert table.nearest_server_name(asked) in {"", *(name.lower() for name in names)}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.from_regex(r"[a-z0-9._-]{1,60}", fullmatch=True).filter(lambda name: name[0] != "."),
        max_size=60,
        unique=True,
    )
)
def test_every_name_is_found_and_is_its_own_nearest(names):
    table = RouteTable.compile([ChainSpec(name, server_names=(name,), targets=((0, 1),)) for name in names])
    for index, name in enumerate(names):
        assert table.match(Observed(server_name=name, application_protocols=("istio",))) == index
        assert table.nearest_server_name(name) == name


def edits(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for at, letter in enumerate(left, 1):
        corner, row[0] = row[0], at
        for index, other in enumerate(right, 1):
            corner, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, corner + (letter != other))
    return row[-1]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=14), min_size=1, max_size=6, unique=True),
    st.text(alphabet="ab", min_size=1, max_size=14),
)
def test_nearest_name_has_the_fewest_edits(names, asked):
    table = RouteTable.compile([ChainSpec(name, server_names=(name,), targets=((0, 1),)) for name in names])
    fewest = min((edits(asked, name), name) for name in names)
    assert table.nearest_server_name(asked) == (fewest[1] if fewest[0] <= 1 + len(asked) // 5 else "")
