"""What to probe a gateway for: services by the names that people, clusters and gateways have for them. And what the
gateway itself says of a hello that it refused. Opens nothing.
"""

import re
import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from eastgate.xds.record import record

from .cluster_model import ClusterModel, ProxyModel, sni_dnat_name
from .dump_source import Admin
from .errors import InsightError, UnreachableError
from .probe import Answer, Connector, Hello, Verdict, probe

SERVICE = re.compile(r"(?P<host>[a-z0-9.-]+):(?P<port>[0-9]{1,5})(?P<subset>/[\w.-]+)?", re.IGNORECASE)
SUFFIX = ".svc.cluster.local"
AT_A_TIME = 8
# A gateway's clock and ours may differ by so much.
CLOCKS_S = 5.0
# How often, and how soon, a gateway is asked again that has not told of a refusal yet.
ASKED_AGAIN, SOON_S = 5, 0.3


def server_name(service: str) -> str:
    """The name that Istio's clients say for NAME.NAMESPACE:PORT, HOST:PORT, either with /SUBSET, or a cluster's name.

    Raises InsightError.
    """
    if service.startswith(("outbound|", "outbound_.")):
        model = ClusterModel(service)
        name = service if model.sni_dnat else sni_dnat_name(model)
        if name and model.service[2]:
            return name
    elif (found := SERVICE.fullmatch(service)) and 0 < int(found["port"]) < 65536:
        host = found["host"]
        return f"outbound_.{found['port']}_.{(found['subset'] or '/')[1:]}_.{host + SUFFIX * (host.count('.') == 1)}"
    raise InsightError(
        f"--service {service!r}: expected NAME.NAMESPACE:PORT, HOST:PORT, either with /SUBSET, or the name of a cluster"
    )


def names_of(proxies: Iterable[ProxyModel]) -> tuple[str, ...]:
    """Server names of all services that the dumps know: what gateways route, and what clients say."""
    names: dict[str, None] = {}
    for proxy in proxies:
        dnat = [model.name for model in proxy.clusters.values() if model.sni_dnat]
        said = [
            model.server_name or sni_dnat_name(model)
            for model in proxy.clusters.values()
            if model.name.startswith("outbound|") and model.service[2]
        ]
        names |= dict.fromkeys(dnat or said)
    return tuple(names)


@record
class Target:
    """Where to say it, how long to wait, and as whom. ``admin``: of the gateway, None where it is not to be asked.
    ``connect``: from where.
    """

    address: tuple[str, int]
    hello: Hello
    timeout_s: float
    wait_s: float
    admin: Admin | None = None
    connect: Connector = socket.create_connection


@record
class Probed:
    """``words``: the gateway's own of a refusal; empty where it has none, or was not asked."""

    answer: Answer
    words: str


def probe_all(target: Target, names: Sequence[str]) -> list[Probed]:
    """An answer for each name, in their order. Raises InsightError."""

    def one(name: str) -> Answer:
        hello = Hello(name, target.hello.protocols, target.hello.certificate, target.hello.key)
        return probe(target.address, hello, timeout_s=target.timeout_s, wait_s=target.wait_s, connect=target.connect)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = list(pool.map(one, names))
    return [Probed(*both) for both in zip(answers, all_words(answers, target.admin), strict=True)]


def all_words(answers: Sequence[Answer], admin: Admin | None) -> list[str]:
    """The gateway's words for each answer. A refusal is in its list soon after it, and not at once."""
    words = [""] * len(answers)
    for _ in range(ASKED_AGAIN):
        missing = any(one.verdict is Verdict.CLOSED and not said for one, said in zip(answers, words, strict=True))
        refusals = refusals_of(admin) if admin is not None and missing else None
        if refusals is None:
            break
        words = [gateway_words(answer, refusals) for answer in answers]
        if not all(said or one.verdict is not Verdict.CLOSED for one, said in zip(answers, words, strict=True)):
            time.sleep(SOON_S)
    return words


def refusals_of(admin: Admin) -> list[dict[str, Any]] | None:
    """What the gateway refused last; None where it cannot be asked, or keeps no such list."""
    try:
        found = admin.read("/refusals")
    except UnreachableError:
        return None
    entries = found.get("refusals") if isinstance(found, dict) else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else None


def gateway_words(answer: Answer, refusals: Iterable[dict[str, Any]]) -> str:
    """Why the gateway closed this connection: the entry of its address, or else the latest of its name."""
    if answer.verdict is not Verdict.CLOSED:
        return ""
    entries = list(refusals)
    own = [one for one in entries if one.get("downstream") == answer.local]
    # Behind a balancer or NAT the gateway saw another address.
    same = [one for one in entries if one.get("server_name") == answer.server_name and is_later(one, answer.began)]
    for one in (*own, *same):
        words = str(one.get("reason", "")).replace("_", " ")
        if nearest := one.get("nearest_server_name"):
            words += f"; the nearest that it knows is {nearest}"
        if cluster := one.get("cluster"):
            words += f" (cluster {cluster})"
        return words
    return ""


def is_later(entry: dict[str, Any], began: float) -> bool:
    """Whether an entry's time is not before the probe's."""
    try:
        return datetime.fromisoformat(str(entry.get("time"))).timestamp() >= began - CLOCKS_S
    except ValueError:
        return False
