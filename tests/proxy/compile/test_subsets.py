"""Which rows criteria select, and what is left of the columns. The integration tests compare with Envoy."""

from dataclasses import replace

from eastgate.fastpath.tables.endpoint_rows import first_occurrences
from eastgate.proxy.compile.subsets import Selection, select, subset_columns
from eastgate.xds.resources import Columns, Locality, LocalityEntry, Subsets, SubsetSelector

from ...fastpath.driven_engine import columns

METADATA = [{"stage": "prod", "version": "1"}, {"stage": "prod"}, {"stage": "dev"}, {}]
EVERYONE = Selection((0, 1, 2, 3))
PROD, TEST = (("stage", '"prod"'),), (("stage", '"test"'),)


def subsets(*selectors: SubsetSelector, **settings: object) -> Subsets:
    return Subsets(selectors or (SubsetSelector(("stage",)),), **settings)  # type: ignore[arg-type]


def test_subset_or_the_clusters_fallback() -> None:
    assert select(subsets(), PROD, METADATA) == Selection((0, 1))
    assert select(subsets(), TEST, METADATA) == select(subsets(), (), METADATA) == Selection(())
    assert select(subsets(fallback_policy="ANY_ENDPOINT"), TEST, METADATA) == EVERYONE
    default = subsets(fallback_policy="DEFAULT_SUBSET", default_subset=(("version", '"1"'),), panic_mode_any=True)
    assert select(default, TEST, METADATA) == Selection((0,), then_any=True)


def test_keys_must_be_those_of_a_selector() -> None:
    assert select(subsets(), (*PROD, ("version", '"1"')), METADATA) == Selection(())


def test_selector_without_a_policy_leaves_it_to_the_cluster() -> None:
    any_endpoint = subsets(SubsetSelector(("stage",)), fallback_policy="ANY_ENDPOINT")
    assert select(any_endpoint, TEST, METADATA) == EVERYONE
    own = subsets(SubsetSelector(("stage",), "NO_FALLBACK"), fallback_policy="ANY_ENDPOINT", panic_mode_any=True)
    assert select(own, TEST, METADATA) == Selection(())


def test_fewer_keys_are_asked_for_again() -> None:
    both = subsets(
        SubsetSelector(("stage",), "ANY_ENDPOINT"), SubsetSelector(("stage", "version"), "KEYS_SUBSET", ("stage",))
    )
    assert select(both, (*PROD, ("version", '"9"')), METADATA) == Selection((0, 1))
    assert select(both, (*TEST, ("version", '"9"')), METADATA) == EVERYONE


def places() -> Columns:
    made = columns(("10.0.0.1", 1), ("::1", 2), ("/a", 0), ("10.0.0.4", 4))
    entries = (LocalityEntry(Locality("r1"), 0, 3), LocalityEntry(Locality("r2"), 0, 5))
    return replace(made, localities=entries, locality=b"\0\0\0\0\1\0\1\0")


def test_columns_of_some_rows() -> None:
    taken = subset_columns(places(), (1, 2), scale_weights=False)
    assert (taken.count, taken.family, taken.localities) == (2, b"\6\1", places().localities)
    assert memoryview(taken.port).cast("H").tolist() == [2, 0]
    assert taken.locality == b"\0\0\1\0"
    assert first_occurrences(taken) == [0, 1]
    assert subset_columns(places(), (), scale_weights=True).count == 0


def test_locality_weights_are_cut_with_their_endpoints() -> None:
    def weights(*rows: int) -> list[int | None]:
        return [entry.weight for entry in subset_columns(places(), rows, scale_weights=True).localities]

    # Halves of 3 and 5, rounded half up.
    assert weights(0, 2) == [2, 3]
    assert weights(0, 1) == [3, 0]
