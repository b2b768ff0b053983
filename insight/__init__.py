"""Answers about a configuration: pure functions over a cluster model."""

if __name__ != "eastgate.insight":
    raise ImportError(f"import this package as eastgate.insight, not {__name__} (run from an installed tree: make dev)")
