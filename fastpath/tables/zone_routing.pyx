"""Part of the picks that each locality gets under zone-aware routing. Whole numbers, truncated where Envoy does.

Rule: the local cluster (the proxies like this one) has a part of its healthy endpoints in each locality, and so has the
cluster that is picked from, both in ten-thousandths.
    direct      the cluster has at least as large a part of its endpoints here as the local cluster: all picks stay here
    residual    else upstream / local of the picks stay here; the others go to localities that have a larger part of the
                cluster than of the local cluster, by the difference; where no locality has, evenly to all
Sums instead of numbers count where locality_basis says HEALTHY_HOSTS_WEIGHT.

Worked example: local cluster 40 / 40 / 20 %, cluster 25 / 50 / 25 %, this proxy in the first: 62.5 % stay; of the rest
1000 / 1500 go to the second and 500 / 1500 to the third: 25 % and 12.5 % of all.

Where it differs from Envoy: nowhere in the parts. Envoy draws the locality of each pick; here localities are lists with
these parts, and what comes of lists is picker's business.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    ZONE_SCALE = 10000


cdef ZoneRoute zone_route(
    Zone* zones, uint32_t count, uint64_t local_total, uint64_t upstream_total, bint has_local, bint force
) noexcept nogil:
    cdef ZoneRoute route
    cdef uint32_t index
    cdef uint64_t residual = 0
    cdef double rest
    route.direct = False
    route.local_percent = 0
    for index in range(count):
        zones[index].local_part = 0
        zones[index].upstream_part = 0
        zones[index].picks = 0.0
        if zones[index].upstream > 0:
            if local_total > 0:
                zones[index].local_part = ZONE_SCALE * zones[index].local // local_total
            zones[index].upstream_part = ZONE_SCALE * zones[index].upstream // upstream_total
    if has_local and (
        force or (zones[0].upstream_part > 0 and zones[0].upstream_part >= zones[0].local_part)
    ):
        route.direct = True
        zones[0].picks = 1.0
        return route
    if has_local and zones[0].local_part > 0:
        route.local_percent = zones[0].upstream_part * ZONE_SCALE // zones[0].local_part
    for index in range(count):
        if not (has_local and index == 0) and zones[index].upstream_part > zones[index].local_part:
            residual += zones[index].upstream_part - zones[index].local_part
        zones[index].residual = residual
    rest = <double>(ZONE_SCALE - route.local_percent) / ZONE_SCALE
    for index in range(count):
        if residual == 0:
            zones[index].picks = rest / count
        else:
            zones[index].picks = rest * <double>(
                zones[index].residual - (zones[index - 1].residual if index > 0 else 0)) / <double>residual
    zones[0].picks += <double>route.local_percent / ZONE_SCALE
    return route


def zone_parts(upstream, local, *, local_total, has_local, force=False):
    """Envoy's numbers for localities with these healthy endpoints: (direct, local percent, residuals, parts, picks).

    `parts`: (of the local cluster, of the cluster) by locality, in ten-thousandths. `upstream[0]` is the proxy's own
    locality if `has_local`.
    """
    cdef uint32_t count = len(upstream)
    cdef uint32_t index
    cdef ZoneRoute route
    cdef Zone* zones = <Zone*>calloc(count + 1, sizeof(Zone))
    if zones == NULL:
        raise MemoryError
    try:
        for index in range(count):
            zones[index].upstream = upstream[index]
            zones[index].local = local[index]
        route = zone_route(zones, count, local_total, sum(upstream), has_local, force)
        return (
            bool(route.direct),
            route.local_percent,
            [] if route.direct else [zones[index].residual for index in range(count)],
            [(zones[index].local_part, zones[index].upstream_part) for index in range(count)],
            [zones[index].picks for index in range(count)],
        )
    finally:
        free(zones)
