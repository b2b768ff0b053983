"""Split horizon beyond istio's vectors, which tests/differential/test_vectors.py answers with this very function."""

from eastgate.mesh.split_horizon import MAX_WEIGHT, Member, NetworkGateway, Seen, View, split_horizon


def test_without_gateways_nothing_is_scaled_or_replaced() -> None:
    there = Member("10.2.0.1", "there", "c", 3, False)
    assert split_horizon([there], View("here"), []) == (Seen(3, member=there),)


def test_weights_saturate() -> None:
    gateway = NetworkGateway("there", "198.51.100.1")
    heavy = [Member(f"10.2.0.{i}", "there", "c", MAX_WEIGHT, True) for i in (1, 2)]
    assert split_horizon(heavy, View("here"), [gateway]) == (Seen(MAX_WEIGHT, gateway=gateway),)
