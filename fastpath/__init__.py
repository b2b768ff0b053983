"""What happens per connection, in Cython: ClientHello, route match, endpoint pick, relay. Knows nothing of xDS."""

if __name__ != "eastgate.fastpath":
    raise ImportError(
        f"import this package as eastgate.fastpath, not {__name__} (run from an installed tree: make dev)"
    )
