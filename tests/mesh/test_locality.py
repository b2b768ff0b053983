"""Locality rules beyond istio's vectors, which tests/differential/test_vectors.py answers with these very functions."""

from eastgate.mesh.locality import Candidate, Group, LocalitySetting, apply, parse_locality
from eastgate.xds.resources import Locality


def group(text: str, weight: int | None = 1) -> Group:
    return Group(parse_locality(text), (Candidate(1, {}, text),), weight)


def test_failover_needs_outlier_detection_unless_forced() -> None:
    groups = [group("r1"), group("r2")]
    proxy = Locality("r1")
    assert [g.priority for g in apply(groups, proxy, {}, LocalitySetting(), outlier_detection=False)] == [0, 0]
    forced = LocalitySetting(forced=True)
    assert [g.priority for g in apply(groups, proxy, {}, forced, outlier_detection=False)] == [0, 1]


def test_distribute_wins_over_failover() -> None:
    setting = LocalitySetting(distribute=(("r1", {"r1": 80, "r2": 20}),), failover=(("r1", "r2"),))
    got = apply([group("r1"), group("r2")], Locality("r1"), {}, setting, outlier_detection=True)
    assert [(g.weight, g.priority) for g in got] == [(80, 0), (20, 0)]


def test_group_without_endpoints_takes_part_in_no_ranking() -> None:
    empty = Group(Locality("r3"), (), None)
    setting = LocalitySetting(failover_priority=("zone",))
    got = apply([group("r1"), empty], Locality("r1"), {"zone": "z"}, setting, outlier_detection=True)
    assert [g.priority for g in got] == [0, 0]
