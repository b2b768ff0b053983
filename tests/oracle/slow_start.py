"""How much of its weight an endpoint has while it is new (Envoy: load_balancer_impl.cc, applySlowStartFactor)."""


def weight_now(weight: float, elapsed_ms: int, window_ms: int, aggression: float = 1.0, least: float = 0.1) -> float:
    """Weight so long after the endpoint became healthy."""
    if elapsed_ms >= window_ms:
        return weight
    part = max(1, elapsed_ms) / window_ms
    factor = part if aggression == 1.0 or part == 1.0 else part ** (1.0 / aggression)
    return weight * max(factor, least)
