"""What we write for Prometheus, read by Prometheus' own parser."""

import tracemalloc

from eastgate.fastpath.loop.histogram import BOUNDS, counted
from eastgate.proxy.admin.exposition import PIECE_BYTES, Exposition, as_prometheus
from eastgate.proxy.admin.stat import Group, Stat, names_of, shorts
from prometheus_client.parser import text_string_to_metric_families

FOREIGN = 'a"b\\c\nd é \ud800'


def samples(*stats: Stat) -> dict[str, dict[tuple[str, ...], float]]:
    families = text_string_to_metric_families(as_prometheus(stats).decode())
    return {one.name: {tuple(sample.labels.values()): sample.value for sample in one.samples} for one in families}


def test_samples_of_a_family_stand_together_whatever_their_order() -> None:
    stats = [
        Stat(f"cluster.{name}.{short}", value, f"envoy_cluster_{short}", (("cluster_name", name),))
        for name, value in (("a", 1), ("b", 2))
        for short in ("upstream_cx_connect_fail", "upstream_cx_none_healthy")
    ]
    assert samples(*stats) == {
        "envoy_cluster_upstream_cx_connect_fail": {("a",): 1, ("b",): 2},
        "envoy_cluster_upstream_cx_none_healthy": {("a",): 1, ("b",): 2},
    }


def test_types_and_help_are_told() -> None:
    text = as_prometheus(
        [
            Stat("server.state", 0, "envoy_server_state", gauge=True),
            Stat("x", 3, "eastgate_x_total", help="Things, by kind"),
        ]
    ).decode()
    assert text == (
        "# TYPE envoy_server_state gauge\nenvoy_server_state 0\n"
        "# HELP eastgate_x_total Things, by kind\n# TYPE eastgate_x_total counter\neastgate_x_total 3\n"
    )


def test_whatever_a_name_holds_the_text_is_valid() -> None:
    found = samples(Stat("x", 1, f"envoy_sds_{FOREIGN}", (("cluster_name", FOREIGN),)))
    assert found == {"envoy_sds_a_b_c_d____": {('a"b\\c\nd é \\ud800',): 1.0}}


def test_large_text_comes_in_pieces_and_anew_for_each_reader() -> None:
    text, names = Exposition(), names_of("envoy_cluster", (shorts("a", "b"),))
    for number in range(3000):
        labels = (("cluster_name", f"outbound|80||{number}.svc"),)
        text.add(Group("", labels, names, (number, 2 * number)))
    pieces = list(text)
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}
    assert b"".join(pieces).count(b"\n") == 6002
    assert list(text) == pieces
    # About as much as there is, by which others decide what is large.
    assert 0.5 < text.weight / len(b"".join(pieces)) < 2


def test_who_reads_a_scrape_of_a_large_mesh_holds_no_megabytes() -> None:
    parts = (shorts(*(f"upstream_cx_{number}" for number in range(28))),)
    names = names_of("envoy_cluster", parts)
    tracemalloc.start()
    text = Exposition()
    for number in range(1000):
        labels = (("cluster_name", f"outbound_.80_._.service-{number}.default.svc.cluster.local"),)
        text.add(Group("", labels, names, tuple(range(number, number + 28))))
    size = sum(map(len, text))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 2_500_000
    # Labels, rows of 28,000 samples and their numbers, and one piece.
    assert most < 2_000_000


def test_groups_and_single_counters_of_a_family_stand_together() -> None:
    one, other = (names_of("envoy_cluster", parts) for parts in ((shorts("a", "b"),), (shorts("b"), shorts("c"))))
    found = [
        Group("", (("cluster_name", "x"),), one, (1, 2)),
        Stat("", 3, "envoy_cluster_b", (("cluster_name", "y"),)),
        Group("", (("cluster_name", 'z"'),), other, (4, 5)),
    ]
    text = as_prometheus(found).decode()
    assert text == (
        '# TYPE envoy_cluster_a counter\nenvoy_cluster_a{cluster_name="x"} 1\n'
        '# TYPE envoy_cluster_b counter\nenvoy_cluster_b{cluster_name="y"} 3\nenvoy_cluster_b{cluster_name="x"} 2\n'
        'envoy_cluster_b{cluster_name="z\\""} 4\n'
        '# TYPE envoy_cluster_c counter\nenvoy_cluster_c{cluster_name="z\\""} 5\n'
    )


def test_histogram_is_cumulative_buckets_sum_and_count() -> None:
    some = Stat("x", 3, "envoy_x_ms", (("a", 'b"c'),), durations=counted([0, 300_000_000, 2**64 - 1]))
    bare = Stat("y", 0, "envoy_y_ms", durations=counted([]))
    families = {one.name: one for one in text_string_to_metric_families(as_prometheus([some, bare, some]).decode())}
    assert {one.type for one in families.values()} == {"histogram"}
    values = {
        (sample.name.removeprefix("envoy_x_ms_"), sample.labels.get("le")): sample.value
        for sample in families["envoy_x_ms"].samples
        if sample.labels["a"] == 'b"c'
    }
    assert [values["bucket", bound] for bound in ("0.5", "250", "500", "3600000", "+Inf")] == [1, 1, 2, 2, 3]
    assert values["count", None] == 3
    assert len(values) == len(BOUNDS) + 3
    assert sum(sample.value for sample in families["envoy_y_ms"].samples) == 0
