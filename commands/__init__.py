"""The command line: one module a command, each imported when it is asked for."""

if __name__ != "eastgate.commands":
    raise ImportError(
        f"import this package as eastgate.commands, not {__name__} (run from an installed tree: make dev)"
    )

# Before anything that loads gRPC: that package sets the environment in which it is loaded.
import eastgate.proxy  # noqa: F401
