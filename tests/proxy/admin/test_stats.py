"""What is counted of the process itself."""

from eastgate.proxy.admin.stats import ProcessStats, stats_of


def test_misses_of_the_watchdog_are_told_by_worker_and_in_all() -> None:
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, watchdog=((2, 1), (3, 0)))
    found = {stat.name: (stat.value, stat.labels) for stat in stats_of(process) if "watchdog" in stat.name}
    assert found == {
        "workers.watchdog_miss": (5, ()),
        "workers.watchdog_mega_miss": (1, ()),
        "server.worker_0.watchdog_miss": (2, (("worker_id", "0"),)),
        "server.worker_1.watchdog_miss": (3, (("worker_id", "1"),)),
        "server.worker_0.watchdog_mega_miss": (1, (("worker_id", "0"),)),
        "server.worker_1.watchdog_mega_miss": (0, (("worker_id", "1"),)),
    }


def test_states_and_gauges_of_the_process_have_envoys_names() -> None:
    process = ProcessStats(state=3, uptime_s=7, workers_started=False, connected=True, workers=2, shedding=True)
    found = {stat.name: (stat.value, stat.gauge) for stat in stats_of(process)}
    assert found["server.state"] == (3, True)
    assert (found["server.live"], found["server.uptime"], found["server.concurrency"]) == (
        (0, True),
        (7, True),
        (2, True),
    )
    assert found["control_plane.connected_state"] == (1, True)
    assert found["overload.envoy.overload_actions.reject_incoming_connections.active"] == (1, True)
    # Without a limit nobody knows how near it is.
    assert not [name for name in found if name.endswith("pressure")]
    names = [stat.name for stat in stats_of(process)]
    assert len(names) == len(set(names))
