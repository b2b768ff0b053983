"""Whether the kernel sets the socket options of a cluster for us: said once, and not found out by each connection."""

import os
import socket
from functools import lru_cache

from eastgate.xds.bind_config import FamilyOption
from eastgate.xds.socket_options import UPSTREAM

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@lru_cache(maxsize=64)
def why_not_set(options: tuple[FamilyOption, ...]) -> str:
    """The first option that is not set, and the kernel's reason; empty when all are. A host without IPv6 needs none."""
    for family, kind in _FAMILIES.items():
        wanted = [one for one in options if one.family == family]
        if not wanted:
            continue
        try:
            tried = socket.socket(kind, socket.SOCK_STREAM)
        except OSError:
            continue
        with tried:
            for one in wanted:
                try:
                    tried.setsockopt(one.level, one.name, one.value)
                except OSError as error:
                    what = UPSTREAM.get((one.level, one.name), f"level {one.level}, name {one.name}")
                    return f"upstream_bind_config: {what} {one.value} is not set: {os.strerror(error.errno or 0)}"
    return ""
