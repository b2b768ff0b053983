"""What happens per connection, in Cython: ClientHello, route match, endpoint pick, relay. Knows nothing of xDS.

For who measures: `ClusterTable`, `Endpoint` and `Locality` can be imported from here (docs/benchmark-selection.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tables.cluster_table import ClusterTable
    from .tables.endpoints import Endpoint, Locality

__all__ = ("ClusterTable", "Endpoint", "Locality")
_HOMES = {"ClusterTable": "cluster_table", "Endpoint": "endpoints", "Locality": "endpoints"}

if __name__ != "eastgate.fastpath":
    raise ImportError(
        f"import this package as eastgate.fastpath, not {__name__} (run from an installed tree: make dev)"
    )


def __getattr__(name: str) -> object:
    """Loaded when they are asked for: whoever imports a module of a room needs no table for that."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".tables.{_HOMES[name]}", __name__), name)
