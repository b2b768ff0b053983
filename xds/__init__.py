"""istiod's client: stream, subscription state, native decoding, accepted configuration.

Knows nothing of sockets that carry traffic.
"""

if __name__ != "eastgate.xds":
    raise ImportError(f"import this package as eastgate.xds, not {__name__} (run from an installed tree: make dev)")
