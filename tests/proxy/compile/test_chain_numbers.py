"""Which chains of a listener are those that it had before."""

from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason
from eastgate.proxy.compile.chain_numbers import ChainNumbers
from eastgate.proxy.compile.compiled import CompiledListener
from eastgate.proxy.compile.http_plan import Used
from eastgate.xds.decode_chain import DecodedChain
from eastgate.xds.decode_listener import decode_listener
from eastgate.xds.resources import Listener
from eastgate.xds.route import RouteConfiguration

from ...support import messages

ROUTES = RouteTable.compile([ChainSpec("none", refusal=Reason.POLICY)])


class Version:
    """Versions of a listener one after the other, decoded as the store does: equal chains once."""

    def __init__(self, *, as_envoy: bool) -> None:
        self._numbers = ChainNumbers(as_envoy=as_envoy)
        self._chains: dict[bytes, DecodedChain] = {}
        self._before: CompiledListener | None = None

    def numbers(self, *services: str, used: Used = (), **fields: float) -> tuple[int, ...]:
        raw = messages.listener([messages.chain(name) for name in services], **fields)  # type: ignore[arg-type]
        listener, self._chains = decode_listener(raw, self._chains)
        return self.of(listener, used)

    def of(self, listener: Listener, used: Used = ()) -> tuple[int, ...]:
        numbers = self._numbers.of(listener, used, self._before)
        self._before = CompiledListener(listener, ROUTES, (), used=used, numbers=numbers)
        return numbers


def test_a_chain_keeps_its_number_wherever_it_stands() -> None:
    for as_envoy in (False, True):
        version = Version(as_envoy=as_envoy)
        assert version.numbers("a", "b") == (1, 2)
        assert version.numbers("c", "b") == (3, 2)
        # One that went and came is another one.
        assert version.numbers("b", "a") == (2, 4)


def test_only_in_envoy_the_rest_of_a_listener_makes_new_chains() -> None:
    ours, envoys = Version(as_envoy=False), Version(as_envoy=True)
    assert ours.numbers("a") == envoys.numbers("a") == (1,)
    assert ours.numbers("a", hello_timeout_s=3.0) == (1,)
    assert envoys.numbers("a", hello_timeout_s=3.0) == (2,)
    assert envoys.numbers("a", hello_timeout_s=3.0) == (2,)


def test_only_in_envoy_routes_come_and_go_without_new_chains() -> None:
    first, second = (RouteConfiguration("r", ()) for _ in range(2))
    ours, envoys = Version(as_envoy=False), Version(as_envoy=True)
    assert ours.numbers("a", "b", used=(first, None)) == envoys.numbers("a", "b", used=(first, None)) == (1, 2)
    assert ours.numbers("a", "b", used=(second, None)) == (3, 2)
    assert envoys.numbers("a", "b", used=(second, None)) == (1, 2)
