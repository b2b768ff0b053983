"""Authorization policies of Envoy's RBAC filters as frozen records. What they mean is decided elsewhere."""

from .cidr import CidrRange
from .record import record


@record
class TextMatch:
    """A StringMatcher. ``kind``: exact, prefix, suffix, contains or regex (RE2, of the whole text)."""

    kind: str
    text: str
    ignore_case: bool = False


@record
class Predicate:
    """A Permission or a Principal. By ``kind``:

    - any: true; and, or, not: of ``parts``
    - authenticated: any name of the peer as ``match`` says, any peer without one; server_name: that of the ClientHello
    - destination_ip, direct_remote_ip, remote_ip, source_ip: an address in ``range``
    - destination_port: a port from ``first`` up to but without ``end``
    - unknown: what layer 4 cannot tell, or nobody here; ``what`` says what that is
    """

    kind: str
    parts: tuple["Predicate", ...] = ()
    match: TextMatch | None = None
    range: CidrRange | None = None
    first: int = 0
    end: int = 0
    what: str = ""


@record
class Policy:
    """Matches where any of its permissions and any of its principals do."""

    name: str
    permissions: tuple[Predicate, ...]
    principals: tuple[Predicate, ...]


@record
class Rules:
    """``action``: ALLOW, DENY or LOG. Without policies, ALLOW lets nobody in."""

    action: str
    policies: tuple[Policy, ...]


@record
class RbacFilter:
    """One RBAC filter. ``rules`` None: nobody is denied. ``shadow_rules`` are counted, and deny nobody.

    ``is_http``: inside an HTTP connection manager, where a client's address may come from a header.
    """

    rules: Rules | None
    shadow_rules: Rules | None = None
    is_http: bool = False
