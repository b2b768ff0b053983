"""Names of principals in a mesh whose trust domain has aliases.

Pure functions. Source of the rules: istio, pilot/pkg/security/trustdomain/bundle.go.
"""

from collections.abc import Iterable, Iterator, Sequence

LOCAL = "cluster.local"
"""What stands for the mesh's own trust domain in any policy."""
PARTS = 5
"""trustDomain/ns/NAMESPACE/sa/ACCOUNT"""


def _is_suffix(pattern: str, domain: str) -> bool:
    return pattern.startswith("*") and domain.endswith(pattern[1:])


def _is_among(pattern: str, domains: Iterable[str]) -> bool:
    """Whether one of the domains is meant, as istiod compares them: the pattern with each domain as the pattern."""
    for one in domains:
        if one in (pattern, "*") or _is_suffix(one, pattern):
            return True
        if one.endswith("*") and pattern.startswith(one[:-1]):
            return True
    return False


def migrated(principals: Iterable[str], domains: Sequence[str]) -> Iterator[str]:
    """Principals of the mesh's trust domain, once for it and once for each alias; others as they are."""
    for name in principals:
        domain, _, rest = name.partition("/")
        whole = len(name.split("/")) == PARTS and domain != "*"
        if not whole or not (_is_among(domain, domains) or domain == LOCAL):
            yield name
            continue
        yield from dict.fromkeys(name if _is_suffix(domain, one) else f"{one}/{rest}" for one in domains)


def expanded(values: Iterable[str], domains: Sequence[str]) -> Iterator[str]:
    """Trust domains: one of the mesh's stands for all of them."""
    found = [own for value in values for own in (domains if value in domains else (value,))]
    yield from dict.fromkeys(found)
