"""Filter chains in short, and who serves what."""

from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.reason import Reason

SERVICE = "outbound_.80_._.reviews.default.svc.cluster.local"


def chain(name: str = "chain", *server_names: str, **fields: object) -> ChainSpec:
    if "refusal" not in fields:
        fields.setdefault("targets", ((0, 1),))
    return ChainSpec(name, **{"server_names": server_names, **fields})  # type: ignore[arg-type]


def istio(name: str, *server_names: str, **fields: object) -> ChainSpec:
    return chain(name, *server_names, application_protocols=ISTIO_ALPN, **fields)


def served_by(
    chains: list[ChainSpec], default: ChainSpec | None = None, *, guards_names: bool = True, **asked: object
) -> str:
    """Name of the chain that serves, or of the reason why none does."""
    found = RouteTable.compile(chains, default, guards_names=guards_names).match(Observed(**asked))
    return Reason(-found).name if found < 0 else [*chains, default][found].name
