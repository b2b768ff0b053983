"""What flags make of the columns that a table is compiled from."""

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.membership import endpoint_flags as flag
from eastgate.proxy.membership.endpoint_flags import combined, judged

from ...fastpath.driven_engine import columns

PLACES = [("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80)]


def counts(flags: list[int], health: tuple[int, ...] = (1, 1, 1)) -> tuple[int, ...]:
    """(total, healthy, degraded, excluded) of the compiled table."""
    used, failed = judged(columns(*PLACES, health=health), bytes(flags))
    return tuple(ClusterTable.compile(used, failed=failed).priorities()[0][:4])


def test_without_flags_the_columns_stay_what_they_are() -> None:
    given = columns(*PLACES)
    assert judged(given, b"") == (given, b"")
    assert judged(given, bytes(3))[0] is given


def test_failed_endpoints_are_out_and_count() -> None:
    assert counts([flag.FAILED_ACTIVE_CHECK, 0, 0]) == (3, 2, 0, 0)
    assert counts([flag.FAILED_OUTLIER_CHECK, 0, 0]) == (3, 2, 0, 0)


def test_endpoints_before_their_first_check_do_not_count() -> None:
    assert counts([flag.FAILED_ACTIVE_CHECK | flag.PENDING_FIRST_CHECK, 0, 0]) == (3, 2, 0, 1)
    assert counts([flag.FAILED_ACTIVE_CHECK | flag.EXCLUDED_BY_ANSWER, 0, 0]) == (3, 2, 0, 1)


def test_degraded_by_its_answer_unless_eds_says_worse() -> None:
    assert counts([flag.DEGRADED_ACTIVE_CHECK] * 3, health=(1, 0, 2)) == (3, 0, 2, 0)


def test_removal_that_is_pending_and_timeouts_change_nothing() -> None:
    assert counts([flag.PENDING_REMOVAL, flag.CHECK_TIMED_OUT, 0]) == (3, 3, 0, 0)


def test_flags_of_several_causes_are_combined_by_row() -> None:
    assert combined(b"", b"\1\0") == b"\1\0"
    assert combined(b"\1\0", b"") == b"\1\0"
    assert combined(b"\1\0", b"\2\4") == b"\3\4"
