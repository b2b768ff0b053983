"""istiod's client: stream, subscription state, native decoding, accepted configuration.

Knows nothing of sockets that carry traffic.
"""

import os

# Before gRPC is loaded: its handlers run between fork and exec of whoever starts a process, and crash that process when
# several channels are open (seen with grpcio 1.85). Nobody here goes on in a fork without exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

if __name__ != "eastgate.xds":
    raise ImportError(f"import this package as eastgate.xds, not {__name__} (run from an installed tree: make dev)")
