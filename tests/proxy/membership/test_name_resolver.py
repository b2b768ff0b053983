"""c-ares against a name server of the test's own."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from eastgate.proxy.membership.name_resolver import Answer, ResolveError, resolve
from eastgate.xds.resources import DnsResolver

from ...support.dns_server import AAAA, A, DnsServer


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as made:
        made.records = {"both.test": ["127.0.0.2", "::2", "127.0.0.1"], "four.test": ["127.0.0.4"], "none.test": []}
        made.ttl_s = {"four.test": 7}
        made.failing = {"broken.test"}
        yield made


def asking(server: DnsServer, **settings: object) -> DnsResolver:
    host, port = server.address
    return DnsResolver(servers=(f"{host}:{port}",), search_domains=False, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "both", "four"),
    [
        ("AUTO", ("::2",), ("127.0.0.4",)),
        ("V4_PREFERRED", ("127.0.0.2", "127.0.0.1"), ("127.0.0.4",)),
        ("V4_ONLY", ("127.0.0.2", "127.0.0.1"), ("127.0.0.4",)),
        ("V6_ONLY", ("::2",), ()),
    ],
)
async def test_lookup_family_says_which_addresses(
    server: DnsServer, family: str, both: tuple[str, ...], four: tuple[str, ...]
) -> None:
    assert (await resolve("both.test", family, asking(server))).addresses == both
    assert (await resolve("four.test", family, asking(server))).addresses == four


async def test_all_are_the_addresses_of_both_families(server: DnsServer) -> None:
    assert set((await resolve("both.test", "ALL", asking(server))).addresses) == {"127.0.0.1", "127.0.0.2", "::2"}


async def test_ttl_comes_with_the_answer_and_every_question_is_asked_anew(server: DnsServer) -> None:
    assert await resolve("four.test", "V4_ONLY", asking(server)) == Answer(("127.0.0.4",), 7)
    server.records["four.test"] = ["127.0.0.5"]
    # c-ares has an answer that would hold for 7 s.
    assert (await resolve("four.test", "V4_ONLY", asking(server))).addresses == ("127.0.0.5",)
    assert (server.asked["four.test", A], server.asked["four.test", AAAA]) == (2, 0)


@pytest.mark.parametrize("host", ["none.test", "unknown.test"])
async def test_name_without_addresses_is_an_answer(server: DnsServer, host: str) -> None:
    assert await resolve(host, "AUTO", asking(server)) == Answer()


async def test_server_failure_is_none(server: DnsServer) -> None:
    with pytest.raises(ResolveError, match="general failure"):
        await resolve("broken.test", "V4_ONLY", asking(server))


async def test_silence_ends_after_the_configured_tries(server: DnsServer) -> None:
    server.silent = True
    with pytest.raises(ResolveError, match=r"[Tt]imeout"):
        await resolve("four.test", "V4_ONLY", asking(server, query_timeout_s=1, query_tries=1))


@pytest.mark.parametrize("host", ["a" * 70 + ".test", "", "a..test", "\u00e4" * 80, "a\0b", "a b"])
async def test_impossible_name_is_an_error_or_has_no_addresses(server: DnsServer, host: str) -> None:
    with suppress(ResolveError):
        assert await resolve(host, "V4_ONLY", asking(server)) == Answer()


async def test_impossible_resolver_is_an_error_of_its_own() -> None:
    with pytest.raises(ResolveError):
        await resolve("a.test", "V4_ONLY", DnsResolver(servers=("nowhere:x",)))
