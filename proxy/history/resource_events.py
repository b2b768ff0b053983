"""Events of resources: what was rejected and later accepted, and certificates that near their end."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from eastgate.xds.decode import SHORT_NAMES
from eastgate.xds.resources import Rejection, Snapshot
from eastgate.xds.secret import Certificate
from eastgate.xds.secret_store import SecretSnapshot

from .event_log import Event, EventLog, Kind

# Of its whole life. Istio renews a workload's certificate at half of it: what is left so far was not renewed.
NEAR_END = 0.1
LEAST_LEFT = timedelta(minutes=10)


class ResourceEvents:
    """Told of what is accepted; looks at certificates when it is asked to. Control thread only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._rejected: dict[tuple[str, str], tuple[str, str]] = {}
        # Certificates that something was said of, by secret, serial and what was said.
        self._told: set[tuple[str, str, str]] = set()

    def accepted(self, snapshot: Snapshot) -> None:
        """What of a snapshot is rejected now, and what is no more."""
        held = {
            "CDS": snapshot.clusters, "EDS": snapshot.assignments, "LDS": snapshot.listeners, "RDS": snapshot.routes,
        }  # fmt: skip
        self._compare(snapshot.rejections, held, kinds=held.keys())

    def secrets(self, snapshot: SecretSnapshot) -> None:
        """The same of secrets."""
        held = {"SDS": {ref.name for ref in snapshot.secrets}}
        self._compare(snapshot.rejections.values(), held, kinds=held.keys())

    def _compare(
        self, rejections: Iterable[Rejection], held: Mapping[str, Collection[str]], *, kinds: Collection[str]
    ) -> None:
        now = {(SHORT_NAMES[one.type_url], one.name): (one.version, one.reason) for one in rejections}
        for (kind, name), (version, reason) in now.items():
            if self._rejected.get((kind, name)) == (version, reason):
                continue
            serves = name in held.get(kind, ())
            before = "an earlier version serves" if serves else "it was never accepted"
            after = "the earlier version serves on" if serves else "nothing of it is served"
            self._log.add(Event(Kind.REJECTED, f"{kind} {name}", reason, before, after))
        for (kind, name), (_, reason) in self._rejected.items():
            if kind in kinds and (kind, name) not in now and name in held.get(kind, ()):
                self._log.add(
                    Event(Kind.ACCEPTED, f"{kind} {name}", "a later version", f"rejected: {reason}", "it serves")
                )
        others = {key: value for key, value in self._rejected.items() if key[0] not in kinds}
        self._rejected = {**others, **now}

    def look_at_certificates(self, snapshot: SecretSnapshot, now: datetime) -> None:
        """Say of each certificate once that it nears its end, and once that it is past it."""
        current: set[tuple[str, str, str]] = set()
        for ref, secret in snapshot.secrets.items():
            # Of a chain the first is the one whose end counts here; of roots each.
            counting = secret.certificates[:1] if secret.tls_certificate is not None else secret.certificates
            for one in counting:
                if (state := state_of(one, now)) == "":
                    continue
                key = ref.name, one.serial, state
                current.add(key)
                if key not in self._told:
                    self._log.add(
                        Event(
                            Kind.CERTIFICATE,
                            f"SDS {ref.name}",
                            f"serial {one.serial}, valid until {one.not_after:%Y-%m-%dT%H:%M:%SZ}, was not renewed",
                            before=f"valid since {one.not_before:%Y-%m-%dT%H:%M:%SZ}",
                            after=state,
                        )
                    )
        self._told = current


def state_of(certificate: Certificate, now: datetime) -> str:
    """`near its end` or `expired`; empty while there is time."""
    left = certificate.not_after - now
    if left <= timedelta(0):
        return "expired"
    life = certificate.not_after - certificate.not_before
    return "near its end" if left < max(NEAR_END * life, min(LEAST_LEFT, life / 2)) else ""
