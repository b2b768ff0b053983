"""Why TLS ended; the names are in failure.pxd."""
