"""Which chains of a listener are those that it had before: each has a number that no other one gets."""

from collections.abc import Iterator
from itertools import count, repeat

from eastgate.xds.decode_listener import same_but_for_chains
from eastgate.xds.resources import FilterChain, Listener
from eastgate.xds.route import RouteConfiguration

from .compiled import CompiledListener
from .http_plan import Used


class ChainNumbers:
    """Numbers of filter chains, from 1. A chain keeps its own while it, and the routes that it names, are the same.

    ``as_envoy``: while its message is, and everything of its listener but the chains: whatever else changes there makes
    a new listener. Routes come and go without that.
    """

    def __init__(self, *, as_envoy: bool = False) -> None:
        self._as_envoy = as_envoy
        self._next = count(1)

    def of(self, listener: Listener, used: Used, before: CompiledListener | None) -> tuple[int, ...]:
        """By chain, the default chain last. `before`: what the listener was, None for one that is new."""
        known: dict[int, tuple[RouteConfiguration | None, int]] = {}
        if before is not None and not (self._as_envoy and not same_but_for_chains(before.listener, listener)):
            # Equal bytes are decoded once, so that the same chain is the same object.
            known = {
                id(chain): (routes, number)
                for (chain, routes), number in zip(
                    _with_routes(before.listener, before.used), before.numbers, strict=False
                )
            }
        return tuple(self._number(known.get(id(chain)), routes) for chain, routes in _with_routes(listener, used))

    def _number(self, known: tuple[RouteConfiguration | None, int] | None, routes: RouteConfiguration | None) -> int:
        if known is not None and (self._as_envoy or known[0] is routes):
            return known[1]
        return next(self._next)


def _with_routes(listener: Listener, used: Used) -> Iterator[tuple[FilterChain, RouteConfiguration | None]]:
    chains = [*listener.filter_chains, *filter(None, (listener.default_filter_chain,))]
    return zip(chains, used or repeat(None), strict=False)
