"""Routes of HTTP as the fast path wants them: what the control side compiles into HttpRoutes."""

from eastgate.xds.record import record


@record
class HeaderSpec:
    """What a header of the first request must say. ``kind``: exact, prefix, suffix, contains, present or unknown.

    ``name`` in lower case. ``inverted``: it must not. A header that is missing fulfils an inverted ``present`` alone,
    unless ``missing_is_empty``.
    """

    name: str
    kind: str
    text: str = ""
    ignore_case: bool = False
    inverted: bool = False
    missing_is_empty: bool = False


@record
class HttpRouteSpec:
    """``path_kind``: any, prefix, exact, separated (a prefix that ends where a segment does), never or unknown.

    ``targets`` are (cluster slot, weight); none: whoever comes here is refused. ``is_known`` False: it asks for more
    than is known here.
    """

    path_kind: str
    path: str = ""
    ignore_case: bool = False
    headers: tuple[HeaderSpec, ...] = ()
    is_known: bool = True
    targets: tuple[tuple[int, int], ...] = ()


@record
class HttpHostSpec:
    """``domains`` as in Envoy's VirtualHost. ``is_closed``: whoever comes here is refused."""

    domains: tuple[str, ...]
    routes: tuple[HttpRouteSpec, ...]
    is_closed: bool = False


@record
class HttpRoutesSpec:
    """``ignores_port``: hosts are compared without their port. ``normalizes_path``: a path that is not in its normal
    form is compared in it, so that nobody here knows it.
    """

    hosts: tuple[HttpHostSpec, ...]
    ignores_port: bool = False
    normalizes_path: bool = False
