"""The process and the command line: composition of xds, fastpath and insight."""

if __name__ != "eastgate.proxy":
    raise ImportError(f"import this package as eastgate.proxy, not {__name__} (run from an installed tree: make dev)")
