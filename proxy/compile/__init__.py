"""From a snapshot to tables of the fast path, and when they become visible."""
