def openssl() -> tuple[str, str]:
    """Return its version as it says it, and the path of its library; empty where the loader does not know."""
