"""The proxies of several clusters, one after the other and some at a time: gateways, and a sample of sidecars."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from eastgate.xds.record import record

from .cluster_model import ProxyModel
from .dump_source import live_proxy
from .errors import InsightError
from .kubectl import Kubectl
from .pods import Pod, reached, sampled

# A forwarded port is a process of its own, and a dump is some megabytes.
AT_A_TIME = 6
Progress = Callable[[int, int, str], None]
"""(how many are done, of how many, which one)"""


@record
class Walked:
    """``failures``: a sentence for each proxy that could not be asked."""

    proxies: tuple[ProxyModel, ...]
    failures: tuple[str, ...]


def pods_of(kubectl: Kubectl, *, sidecars: int) -> list[Pod]:
    """Which pods of a cluster to look at. Raises KubectlError."""
    return sampled(kubectl.json("get", "pods", "--all-namespaces").get("items", []), sidecars=sidecars)


def walk(clusters: Sequence[Kubectl], *, sidecars: int, port: int, told: Progress) -> Walked:
    """Ask gateways and a sample of sidecars in all clusters. Raises InsightError where a cluster cannot be listed, or
    no proxy of any answers."""
    chosen = [(one, pod) for one in clusters for pod in pods_of(one, sidecars=sidecars)]
    if not chosen:
        names = ", ".join(one.context or "the current context" for one in clusters)
        raise InsightError(f"--mesh: no running pod with a proxy in {names}")

    def ask(one: tuple[Kubectl, Pod]) -> ProxyModel | str:
        kubectl, pod = one
        try:
            with reached(kubectl, pod, port=port) as admin:
                return live_proxy(admin, more=True)
        except InsightError as error:
            return str(error)

    found: list[ProxyModel | str] = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for (_, pod), answer in zip(chosen, pool.map(ask, chosen), strict=True):
            found.append(answer)
            told(len(found), len(chosen), pod.text)
    proxies = tuple(one for one in found if isinstance(one, ProxyModel))
    failures = tuple(one for one in found if isinstance(one, str))
    if not proxies:
        raise InsightError(f"--mesh: none of {len(chosen)} proxies answered: {failures[0]}")
    return Walked(proxies, failures)


def contexts(kubectl: Kubectl, names: Sequence[str]) -> Iterator[Kubectl]:
    """One for each context; the current one where none is named."""
    for name in names or ("",):
        yield Kubectl(kubectl.program, name, kubectl.kubeconfig)
