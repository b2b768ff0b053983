from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, final, type_check_only

from .endpoints import Endpoint, Locality
from .zones import Census

@type_check_only
class LocalityEntry(Protocol):
    @property
    def locality(self) -> tuple[str, str, str]: ...
    @property
    def priority(self) -> int: ...
    @property
    def weight(self) -> int | None: ...

@type_check_only
class Columns(Protocol):
    """Endpoints in message order; see eastgate.xds.resources.Columns for the meaning of each buffer."""

    @property
    def count(self) -> int: ...
    @property
    def family(self) -> bytes: ...
    @property
    def address(self) -> bytes: ...
    @property
    def port(self) -> bytes: ...
    @property
    def weight(self) -> bytes: ...
    @property
    def health(self) -> bytes: ...
    @property
    def priority(self) -> bytes: ...
    @property
    def locality(self) -> bytes: ...
    @property
    def localities(self) -> Sequence[LocalityEntry]: ...
    @property
    def names(self) -> Sequence[bytes]: ...

@type_check_only
class Hashing(Protocol):
    """Settings of RING_HASH and MAGLEV; see eastgate.xds.resources.Hashing."""

    @property
    def hash_function(self) -> str: ...
    @property
    def minimum_ring_size(self) -> int: ...
    @property
    def maximum_ring_size(self) -> int: ...
    @property
    def table_size(self) -> int: ...
    @property
    def balance_factor(self) -> int: ...

@type_check_only
class ZoneAware(Protocol):
    """Settings of zone-aware routing; see eastgate.xds.resources.ZoneAware."""

    @property
    def routing_enabled(self) -> int: ...
    @property
    def min_cluster_size(self) -> int: ...
    @property
    def force_min_size(self) -> int: ...
    @property
    def by_weight(self) -> bool: ...

# (hosts, healthy, degraded, excluded, {locality: (hosts, healthy, their weights)}) of P0.
@final
class ClusterTable:
    """Compiled endpoints of one cluster."""

    columns: Columns
    policy: str
    refused: float
    """Part of picks that gets no endpoint because a priority is in panic, or because nobody is in a zone."""
    zoned: bool
    """Whether picks of P0 look at zones."""

    @staticmethod
    def from_endpoints(
        endpoints: Iterable[Endpoint],
        *,
        locality_weights: Mapping[tuple[int, Locality], int] | None = None,
        locality_weighted: bool | None = None,
        **settings: Any,
    ) -> ClusterTable:
        """Build the table of eastgate.fastpath.Endpoint records. For measuring, tests and simulations.

        `endpoints`: in the order that picks and shares name them by. `locality_weights`: by (priority, Locality); where
        there are some, `locality_weighted` is True unless it is given. `settings`: those of `compile`; `hash_keys` are
        taken from the endpoints. Raises ValueError naming the endpoint, or the setting, for impossible input, and
        TypeError for a setting that there is not.
        """
    @staticmethod
    def compile(
        columns: Columns,
        *,
        policy: str = "ROUND_ROBIN",
        overprovisioning_factor: int = 140,
        panic_threshold: int = 50,
        locality_weighted: bool = False,
        weighted_priority_health: bool = False,
        choice_count: int = 2,
        active_request_bias: float = 1.0,
        full_scan: bool = False,
        hashing: Hashing | None = None,
        hash_keys: Sequence[bytes | None] | None = None,
        own_locality: tuple[str, str, str] | None = None,
        fail_on_panic: bool = False,
        factors: bytes = b"",
        by_weight: bool = False,
        zone_aware: ZoneAware | None = None,
        local: Census | None = None,
        previous: ClusterTable | None = None,
        seed: int = 0,
        failed: bytes = b"",
    ) -> ClusterTable:
        """Build the table. `policy`: ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH or MAGLEV.

        `choice_count`, `active_request_bias`, `full_scan`: of LEAST_REQUEST. `hashing`: settings of the last two
        policies, or None for Envoy's defaults. `hash_keys`: what is hashed for each endpoint instead of its address, as
        bytes by row, None in a row or for all. `own_locality`: where this proxy runs.
        `previous`: endpoint states are carried over by identity (address, locality). `failed`: optional uint8 per
        endpoint, non-zero = failed for another reason than EDS health (outlier ejection, active health check).
        `fail_on_panic`: what falls to a priority in panic gets no endpoint; RING_HASH and MAGLEV ignore it.
        `factors`: what endpoints in slow start have of their weight, 1.0 for others, float64 by row; for ROUND_ROBIN
        and LEAST_REQUEST. `by_weight`: LEAST_REQUEST compares nobody, also where weights are equal. `zone_aware`,
        `local`: settings of zone-aware routing or None for Envoy's defaults, and the census of the local cluster;
        without one, or without `own_locality`, zones are not looked at. `seed` places the cursor of Python callers.
        Raises ValueError naming the field for impossible input.
        """
    def __len__(self) -> int: ...
    def pick(self) -> int:
        """Endpoint index (row of columns), or a negative Reason."""
    def finds_endpoints(self) -> bool:
        """Whether some pick gives an endpoint."""
    def pick_hash(self, value: int, attempt: int = 0) -> int:
        """The same for a connection with this hash. `attempt`: others than 0 lead to further endpoints.

        RANDOM takes the hash as its draw; ROUND_ROBIN and LEAST_REQUEST do not look at it.
        """
    def pick_many(self, out: Any) -> None:
        """Fill a writable uint32 buffer with picks; 0xFFFFFFFF where there was none."""
    def spin(self, picks: int) -> int:
        """Pick `picks` times as the engine does, keeping nothing; return how many gave an endpoint. For benchmarks."""
    def shares(self) -> memoryview:
        """float64 per endpoint, exact, sum 1 - refused (0 when nothing can be picked); least request: at equal load."""
    def priorities(self) -> tuple[tuple[int, int, int, int, int, int, int, bool], ...]:
        """Per priority: total, healthy, degraded, excluded, healthy load %, degraded load %, availability %, panic.

        Availability is that of healthy and degraded endpoints together, 100 at most.
        """
    def census(self) -> Census:
        """Endpoints of P0 as `local` of another table's compile takes them."""
    def address(self, endpoint: int) -> str:
        """host:port, [host]:port, or unix:path."""
    def state(self, endpoint: int) -> tuple[int, int, int, int]:
        """active, cx_total, cx_connect_fail, consecutive_failures."""
    def reset_failures(self, endpoint: int) -> None:
        """Set consecutive_failures to 0, as outlier detection does after it has dealt with them."""
    def hold(self, endpoint: int) -> None:
        """Count an established connection, as the engine does; each needs a drop. For simulations."""
    def drop(self, endpoint: int) -> None:
        """Take back one hold. ValueError when there is none."""
    def schedule(self) -> tuple[str, int]:
        """(kind, length): "constant", "cycle", "alias" or the policy in lower case, and how many places it has."""
    def hash_entries(self) -> list[list[tuple[int, int]]] | list[list[int]]:
        """By priority that takes picks: (hash, row) of each entry of its ring, or the row of each place of its table.

        Empty for a table that picks do not find by a hash.
        """
    def memory(self) -> int:
        """Bytes of this table, its endpoint states and its columns; states shared with other tables count in each."""
