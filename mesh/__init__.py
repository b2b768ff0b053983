"""The embedded control plane: a mesh file in, xDS out."""

if __name__ != "eastgate.mesh":
    raise ImportError(f"import this package as eastgate.mesh, not {__name__} (run from an installed tree: make dev)")
