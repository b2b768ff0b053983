"""A mesh that runs on loopback: processes, client, report, and the parts of a comparison with Envoy."""

if __name__ != "eastgate.trial":
    raise ImportError(f"import this package as eastgate.trial, not {__name__} (run from an installed tree: make dev)")

# Before anything that loads gRPC: that package sets the environment in which it is loaded.
import eastgate.proxy  # noqa: F401
