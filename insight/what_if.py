"""What if these endpoints were down? Change health in a model and compile it again. Decides no share itself."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from eastgate.xds.record import record

from .cluster_model import CompiledModel, Endpoint

KINDS = ("down", "zone", "region", "locality", "priority", "cluster")


@record
class Outage:
    """What goes down: all endpoints whose `kind` is `value`. ``down`` is an address, with or without its port."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}={self.value}"

    def hits(self, endpoint: Endpoint) -> bool:
        return self.value in candidates(endpoint, self.kind)


def candidates(endpoint: Endpoint, kind: str) -> tuple[str, ...]:
    """What an endpoint answers to."""
    match kind:
        case "down":
            return endpoint.plain_address, endpoint.host
        case "zone":
            return endpoint.locality.zone, f"{endpoint.locality.region}/{endpoint.locality.zone}"
        case "region":
            return (endpoint.locality.region,)
        case "locality":
            return (str(endpoint.locality),)
        case "priority":
            return (str(endpoint.priority),)
        case _:
            return (endpoint.cluster_id,)


def parse_outages(texts: Iterable[str]) -> tuple[Outage, ...]:
    """From `kind=value[,kind=value]` texts. Raises ValueError in a sentence."""
    found = []
    for text in texts:
        for part in text.split(","):
            kind, equals, value = part.strip().partition("=")
            if not equals or not value or kind not in KINDS:
                raise ValueError(f"{part.strip()!r} is none of {', '.join(f'{kind}=...' for kind in KINDS)}")
            found.append(Outage(kind, value.removeprefix("P") if kind == "priority" else value))
    return tuple(found)


def rows_hit(endpoints: Sequence[Endpoint], outage: Outage) -> list[int]:
    """Rows that an outage takes down. Raises ValueError, with what there is instead, when there are none."""
    rows = [row for row, endpoint in enumerate(endpoints) if outage.hits(endpoint)]
    if rows:
        return rows
    known = sorted({name for endpoint in endpoints for name in candidates(endpoint, outage.kind)[:1] if name})
    near = get_close_matches(outage.value, known, n=3, cutoff=0.5) or known[:3]
    hint = f"; there is {', '.join(near)}" if near else "; the dump does not say that of any endpoint"
    raise ValueError(f"{outage}: no such endpoint{hint}")


def apply_outages(compiled: CompiledModel, outages: Iterable[Outage]) -> CompiledModel:
    """The cluster with all of them down at once. Raises ValueError when one hits nothing."""
    down = {row for outage in outages for row in rows_hit(compiled.model.endpoints, outage)}
    return compiled.with_down(down)
