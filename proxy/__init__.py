"""The running process: composition of xds, fastpath and insight."""

import os

if __name__ != "eastgate.proxy":
    raise ImportError(f"import this package as eastgate.proxy, not {__name__} (run from an installed tree: make dev)")

# Read when grpc is loaded. With it, and it is the default of grpcio 1.85, a child that uvloop forks in order to run a
# program now and then dies in a handler of grpc's, before the program starts. Nothing here forks for any other reason.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# Its core would write lines of its own in a dialect of its own; whatever matters comes as an error, too. To see them,
# set the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
