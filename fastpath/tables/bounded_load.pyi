from collections.abc import Sequence

def probing_order(hash_value: int, count: int) -> list[int]:
    """In which order the alternatives of a full endpoint are looked at, itself among them."""

def slots(active: int, factor: int, weight: float) -> tuple[int, int]:
    """How many connections all endpoints may have, and how many of them one of this normalised weight."""

def choose_by_overload(hash_value: int, candidate: int, overloads: Sequence[float]) -> int:
    """The endpoint that takes the connection, for how full each is."""
