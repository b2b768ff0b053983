"""What the ledger says of each resource, and that it keeps no more than is held."""

from collections.abc import Iterable

from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS
from eastgate.xds.ledger import REASON_LIMIT, Ledger, Line
from eastgate.xds.resources import Rejection
from eastgate.xds.store import Store

from . import istiod as build
from .istiod import packed

A, B = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"
BAD = {"connect_timeout": "-1s"}


class Fed:
    """A store and a ledger that is told of each response, as the stream does it."""

    def __init__(self) -> None:
        self.store, self.ledger = Store(), Ledger()
        self.now_s = 0.0

    def push(
        self, type_url: str, version: str, payloads: Iterable[bytes], versions: dict[str, str] | None = None
    ) -> None:
        self.now_s += 1.0
        applied = self.store.apply(type_url, version, [packed(type_url, one) for one in payloads])
        self.ledger.note(
            type_url,
            version,
            f"nonce-{version}",
            self.now_s,
            accepted=applied.accepted,
            rejected=applied.rejected,
            versions=versions,
        )
        self.ledger.forget(self.store.snapshot)

    def lines(self) -> dict[str, Line]:
        return {line.name: line for line in self.ledger.lines(self.store.snapshot, self.store.wanted)}

    def cluster_line(self, name: str) -> Line:
        (line,) = [one for one in self.ledger.lines(self.store.snapshot, {}) if one.name == name]
        return line

    def counts(self, type_url: str) -> dict[str, int]:
        return self.ledger.counts(self.store.snapshot, self.store.wanted)[type_url]


def assignment(name: str) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint("1.1.1.1")])])


def test_accepted_resource_has_version_nonce_and_time() -> None:
    fed = Fed()
    fed.push(CDS, "v1", [build.cluster(A)])
    fed.push(EDS, "v2", [assignment(A)])
    lines = list(fed.ledger.lines(fed.store.snapshot, fed.store.wanted))
    assert [(one.type_url, one.name, one.state) for one in lines] == [(CDS, A, "ACKED"), (EDS, A, "ACKED")]
    found = lines[1].accepted
    assert found is not None
    assert (found.version, found.nonce, found.at_s) == ("v2", "nonce-v2", 2.0)


def test_rejected_version_stands_beside_the_accepted_one_and_stays_as_history() -> None:
    fed = Fed()
    fed.push(CDS, "v1", [build.cluster(A), build.cluster(B)])
    fed.push(CDS, "v2", [build.cluster(A, **BAD), build.cluster(B)])
    line = fed.cluster_line(A)
    assert line.state == "NACKED"
    assert line.accepted is not None
    assert line.rejected is not None
    assert (line.accepted.version, line.rejected.version, line.rejected.at_s) == ("v1", "v2", 2.0)
    assert line.rejected.reason == "connect_timeout is -1s, must be above 0s"
    # The rest of that response was accepted.
    other = fed.cluster_line(B)
    assert other.accepted is not None
    assert (other.state, other.accepted.version) == ("ACKED", "v2")
    fed.push(CDS, "v3", [build.cluster(A), build.cluster(B)])
    line = fed.cluster_line(A)
    assert line.accepted is not None
    assert line.rejected is not None
    assert (line.accepted.version, line.rejected.version) == ("v3", "v2")
    assert fed.ledger.rejections == {CDS: 1, EDS: 0, LDS: 0, RDS: 0, SDS: 0}


def test_counts_are_those_of_the_lines() -> None:
    fed = Fed()
    fed.push(CDS, "v1", [build.cluster(A), build.cluster(B)])
    fed.push(CDS, "v2", [build.cluster(A, **BAD), build.cluster(B)])
    fed.push(EDS, "v1", [assignment(A)])
    assert fed.counts(CDS) == {"ACKED": 1, "NACKED": 1, "REQUESTED": 0, "RESTORED": 0}
    assert fed.counts(EDS) == {"ACKED": 1, "NACKED": 0, "REQUESTED": 1, "RESTORED": 0}
    for type_url in (CDS, EDS, LDS):
        every = fed.ledger.lines(fed.store.snapshot, fed.store.wanted)
        states = [line.state for line in every if line.type_url == type_url]
        assert {state: states.count(state) for state in fed.counts(type_url)} == fed.counts(type_url)


def test_resource_that_never_was_accepted_is_listed_while_it_is_rejected() -> None:
    fed = Fed()
    fed.push(CDS, "v1", [build.cluster(A, **BAD)])
    line = fed.cluster_line(A)
    assert (line.state, line.accepted) == ("NACKED", None)
    assert fed.counts(CDS) == {"ACKED": 0, "NACKED": 1, "REQUESTED": 0, "RESTORED": 0}
    fed.push(CDS, "v2", [])
    assert fed.lines() == {}


def test_what_comes_from_elsewhere_is_called_restored() -> None:
    fed = Fed()
    fed.store.apply(CDS, "old", [packed(CDS, build.cluster(A))])
    fed.store.apply(EDS, "old", [packed(EDS, assignment(A))])
    assert {(one.state, one.accepted) for one in fed.lines().values()} == {("RESTORED", None)}
    assert fed.counts(CDS)["RESTORED"] == 1
    fed.push(CDS, "v1", [build.cluster(A, **BAD)])
    assert fed.counts(CDS) == {"ACKED": 0, "NACKED": 1, "REQUESTED": 0, "RESTORED": 0}
    assert fed.counts(EDS)["RESTORED"] == 1


def test_own_versions_of_resources_win_over_that_of_the_response() -> None:
    fed = Fed()
    fed.push(CDS, "system", [build.cluster(A), build.cluster(B)], {A: "7", B: ""})
    accepted = {line.name: line.accepted for line in fed.ledger.lines(fed.store.snapshot, {})}
    assert {name: one.version for name, one in accepted.items() if one} == {A: "7", B: "system"}


def test_what_left_is_forgotten_and_reasons_are_cut() -> None:
    fed = Fed()
    for number in range(50):
        fed.push(CDS, f"v{number}", [build.cluster(f"outbound_.80_._.s{number}.svc")])
    assert list(fed.lines()) == ["outbound_.80_._.s49.svc"]
    assert sum(map(len, fed.ledger._accepted.values())) == 1
    fed.ledger.note(
        CDS,
        "v",
        "n",
        0.0,
        accepted=(),
        rejected=[Rejection(CDS, "outbound_.80_._.s49.svc", "v", "x" * 10_000, b"")],
    )
    line = fed.cluster_line("outbound_.80_._.s49.svc")
    assert line.rejected is not None
    assert len(line.rejected.reason) == REASON_LIMIT


def test_resources_of_one_response_share_what_is_known_of_it() -> None:
    """State per resource is a reference: 5,000 of one response cost one Accepted."""
    fed = Fed()
    fed.push(CDS, "v1", [build.cluster(f"outbound_.80_._.s{number}.svc") for number in range(100)])
    assert len({id(one) for one in fed.ledger._accepted[CDS].values()}) == 1


def test_assignments_are_counted_one_by_one() -> None:
    fed = Fed()
    fed.push(CDS, "1", [build.cluster(A), build.cluster(B)])
    for version, names in (("1", (A, B)), ("2", (A,)), ("3", (A,))):
        fed.push(EDS, version, [build.assignment(name, ()) for name in names])
    assert fed.ledger.assignments_accepted == {A: 3, B: 1}
    assert not fed.ledger.assignments_rejected
    # What left the configuration is forgotten.
    fed.push(CDS, "2", [build.cluster(B)])
    assert fed.ledger.assignments_accepted == {B: 1}
