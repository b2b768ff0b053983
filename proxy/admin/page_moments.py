"""Earlier moments of this proxy for the page, and what moved between two of them. Keeps what changed, and no table."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from eastgate.insight.moments import Moments
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.membership.endpoint_flags import FAILED_OUTLIER_CHECK
from eastgate.xds.resources import Assignment, Cluster
from eastgate.xds.whole_number import UINT32, whole_number

if TYPE_CHECKING:
    from eastgate.insight.cluster_model import ClusterModel

NOW = "now"


class State(NamedTuple):
    """One cluster as it was published."""

    cluster: Cluster
    assignment: Assignment | None
    failed: bytes


def weight(state: State) -> int:
    return state.assignment.columns.count if state.assignment is not None else 0


def state_of(compiled: CompiledCluster) -> State:
    return State(compiled.cluster, compiled.assignment, compiled.failed)


def model_of(state: State | None) -> "ClusterModel | None":
    """As `eastgate diff` has it, with what health checks and outlier detection had found out."""
    # Late, here and below: most gateways are never asked.
    from eastgate.insight.snapshot_model import cluster_of

    if state is None:
        return None
    model = cluster_of(state.cluster, state.assignment)
    if not any(state.failed):
        return model
    endpoints = tuple(
        one._replace(failed="outlier" if flags & FAILED_OUTLIER_CHECK else "active check") if flags else one
        for one, flags in zip(model.endpoints, state.failed, strict=True)
    )
    return replace(model, endpoints=endpoints)


def compared(between: Mapping[str, tuple[State | None, State | None]]) -> dict[str, Any]:
    from eastgate.insight.comparison import comparison

    return comparison({name: (model_of(before), model_of(after)) for name, (before, after) in between.items()})


def asked_moments(query: Mapping[str, str]) -> tuple[int, int | None]:
    """``before`` and ``after`` of a query: ids, the latter `now` unless given. Raises ValueError."""
    texts = query.get("before", ""), query.get("after", NOW)
    before, after = (whole_number(text, UINT32) for text in texts)
    if before is None or (after is None and texts[1] != NOW):
        raise ValueError("before and after are ids of /ui/moments; after may be `now`")
    if after is not None and after < before:
        before, after = after, before
    return before, after


class PageMoments:
    """``published`` is an observer of the compiler."""

    def __init__(self) -> None:
        self._moments: Moments[State] = Moments(weigh=weight)

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone."""
        self._moments.change(name, state_of(compiled) if compiled is not None else None)

    def as_json(self) -> dict[str, Any]:
        return {"moments": self._moments.listed()}

    def question(self, query: Mapping[str, str]) -> Callable[[], dict[str, Any]]:
        """What is to be computed, on any thread. Raises ValueError, and KeyError for a moment that is forgotten."""
        return partial(compared, self._moments.between(*asked_moments(query)))
