"""Host names to addresses and the time that they hold, through c-ares as Envoy does. Schedules and keeps nothing.

c-ares rather than getaddrinfo of the C library: that one blocks a thread per question and tells no TTL, which
respect_dns_ttl needs. Every question gets a channel of its own (0.1 ms): a channel caches answers for as long as they
hold, and Envoy, which turns that cache off, asks again at each refresh.
"""

import asyncio
import socket
from contextlib import aclosing
from typing import Any

from eastgate.xds.record import record
from eastgate.xds.resources import DnsResolver

# What c-ares may take with all its own timeouts and tries; Envoy sets no other limit.
LONGEST_S = 60.0
FAMILIES = {
    "AUTO": (socket.AF_INET6, socket.AF_INET),
    "V4_PREFERRED": (socket.AF_INET, socket.AF_INET6),
    "V4_ONLY": (socket.AF_INET,),
    "V6_ONLY": (socket.AF_INET6,),
    "ALL": (socket.AF_UNSPEC,),
}


class ResolveError(Exception):
    """Nobody knows whether the name has addresses; the message is one line."""


@record
class Answer:
    """Addresses in the order of the answer, each once, and the lowest TTL. A name that does not exist has none."""

    addresses: tuple[str, ...] = ()
    ttl_s: int = 0


async def resolve(host: str, lookup_family: str, resolver: DnsResolver) -> Answer:
    """Ask for the families one after the other until one has addresses. Raises ResolveError as the last one ended."""
    failure: ResolveError | None = None
    for family in FAMILIES[lookup_family]:
        try:
            answer = await _ask(host, family, resolver)
        except ResolveError as error:
            failure = error
            continue
        if answer.addresses:
            return answer
        failure = None
    if failure is not None:
        raise failure
    return Answer()


async def _ask(host: str, family: socket.AddressFamily, resolver: DnsResolver) -> Answer:
    # Late: most gateways have no DNS cluster, and it costs 40 ms.
    import aiodns
    import pycares

    try:
        opened = aiodns.DNSResolver(**_options(resolver))
    except (pycares.AresError, OSError, ValueError) as error:
        raise ResolveError(f"c-ares cannot be started: {error}") from None
    async with aclosing(_Closing(opened)) as asking:
        try:
            async with asyncio.timeout(LONGEST_S):
                result = await asking.resolver.getaddrinfo(host, family=family, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise ResolveError(f"no answer within {LONGEST_S:g} s") from None
        except aiodns.error.DNSError as error:
            # Envoy takes both for the answer that there are no addresses.
            if error.args[0] in (pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA):
                return Answer()
            raise ResolveError(str(error.args[1]) if len(error.args) > 1 else str(error)) from None
        except ValueError as error:
            raise ResolveError(f"no host name: {error}") from None
    found = tuple(dict.fromkeys(node.addr[0].decode() for node in result.nodes))
    return Answer(found, min((node.ttl for node in result.nodes), default=0))


def _options(resolver: DnsResolver) -> dict[str, Any]:
    import pycares

    flags = 0
    if resolver.use_tcp:
        flags |= pycares.ARES_FLAG_USEVC
    if not resolver.search_domains:
        flags |= pycares.ARES_FLAG_NOSEARCH
    options: dict[str, Any] = {"flags": flags} if flags else {}
    if resolver.servers:
        options["nameservers"] = list(resolver.servers)
    if resolver.query_timeout_s:
        options["timeout"] = float(resolver.query_timeout_s)
    if resolver.query_tries:
        options["tries"] = resolver.query_tries
    if resolver.rotate:
        options["rotate"] = True
    return options


class _Closing:
    """aiodns calls its end close, without an a."""

    def __init__(self, resolver: Any) -> None:
        self.resolver = resolver

    async def aclose(self) -> None:
        await self.resolver.close()
