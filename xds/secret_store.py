"""Which secrets are wanted, and the last good version of each. Knows no stream; holds keys in memory only.

A secret that is not wanted any more is forgotten at once, and so is its key. One that its server says is gone stays, as
in Envoy: who deletes a secret that listeners still name would otherwise stop them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from time import monotonic
from types import MappingProxyType

from .config_source import ADS
from .errors import XdsError, own_fault
from .incoming import sort_response
from .record import record
from .resources import Rejection
from .response import Response
from .secret import SECRET, Certificate, Secret, decode_secret, digest_of
from .tls_records import SecretRef

SDS = f"type.googleapis.com/{SECRET}"

OnSecrets = Callable[["SecretSnapshot"], None]


@record
class SecretSnapshot:
    """Accepted secrets, frozen. ``wanted``: what accepted clusters and listeners name. ``generation`` grows exactly
    when wanted or accepted secrets change. ``rejections`` hold no bytes.
    """

    generation: int = 0
    secrets: Mapping[SecretRef, Secret] = field(default_factory=lambda: MappingProxyType({}))
    wanted: frozenset[SecretRef] = frozenset()
    rejections: Mapping[SecretRef, Rejection] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def missing(self) -> frozenset[SecretRef]:
        """Wanted and never accepted: what needs them cannot be used yet."""
        return self.wanted.difference(self.secrets)

    def names(self, source: str) -> tuple[str, ...]:
        """Names wanted of a source, sorted."""
        return tuple(sorted(ref.name for ref in self.wanted if ref.source == source))

    @property
    def certificates(self) -> Iterable[Certificate]:
        """Every certificate of every secret."""
        return [one for secret in self.secrets.values() for one in secret.certificates]


class SecretStore:
    """Secrets of one node. Owned by the thread that feeds it; what it hands out is frozen. ``now``: the wall clock;
    ``clock``: seconds that only grow.
    """

    def __init__(
        self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), clock: Callable[[], float] = monotonic
    ) -> None:
        self._now = now
        self._clock = clock
        # Since when a secret is wanted.
        self._since: dict[SecretRef, float] = {}
        self._snapshot = SecretSnapshot()
        self._listeners: list[OnSecrets] = []
        # The version that was accepted last, by source.
        self._versions: dict[str, str] = {}

    @property
    def snapshot(self) -> SecretSnapshot:
        """What is accepted now."""
        return self._snapshot

    def on_change(self, callback: OnSecrets) -> Callable[[], None]:
        """Have `callback` called with each new generation, before it is acknowledged; return what ends that.

        New connections use what the newest snapshot holds; live ones keep what they began with.
        """
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def want(self, refs: Iterable[SecretRef]) -> None:
        """Set what is wanted from now on; what is not is forgotten."""
        wanted = frozenset(refs)
        now_s = self._clock()
        self._since = {ref: self._since.get(ref, now_s) for ref in wanted}
        if wanted != self._snapshot.wanted:
            secrets = {ref: one for ref, one in self._snapshot.secrets.items() if ref in wanted}
            rejections = {ref: one for ref, one in self._snapshot.rejections.items() if ref in wanted}
            self._replace(secrets, rejections, wanted, moved=True)

    def awaited(self) -> list[SecretRef]:
        """Those that a process that starts waits for, as Envoy does: missing, not rejected, and still in their time."""
        now_s, rejected = self._clock(), self._snapshot.rejections
        return [
            ref
            for ref in self._snapshot.missing
            if ref not in rejected and (not ref.fetch_timeout_s or now_s < self._since[ref] + ref.fetch_timeout_s)
        ]

    def wanted(self, source: str = ADS) -> tuple[str, ...]:
        """Names to subscribe to at a source, sorted."""
        return self._snapshot.names(source)

    def held(self, source: str = ADS) -> tuple[str, ...]:
        """Names of the accepted secrets of a source."""
        return tuple(ref.name for ref in self._snapshot.secrets if ref.source == source)

    def rejections(self, source: str = ADS) -> tuple[Rejection, ...]:
        """What of a source is being rejected."""
        return tuple(one for ref, one in self._snapshot.rejections.items() if ref.source == source)

    def apply(
        self, version: str, resources: Sequence[bytes], *, source: str = ADS, names: Sequence[str] = ()
    ) -> tuple[Rejection, ...]:
        """Accept or reject the Anys of a response of a source; return what was rejected. Names are merged."""
        return self.apply_response(Response(SDS, version, resources=resources, names=names), source=source)

    def apply_response(self, response: Response, *, source: str = ADS) -> tuple[Rejection, ...]:
        """The same for a whole response. One that mixes types changes nothing."""
        before = self._snapshot
        secrets, rejections = dict(before.secrets), dict(before.rejections)
        incoming = sort_response(response, self._versions.get(source, ""))
        rejected = [replace(one, raw=b"") for one in incoming.rejected]
        for name, payload in incoming.named.items():
            ref = SecretRef(name, source)
            if ref not in before.wanted:
                continue
            known = secrets.get(ref)
            try:
                if known is None or known.digest != digest_of(payload):
                    secrets[ref] = decode_secret(payload, self._now(), response.version)
            except XdsError as error:
                rejected.append(Rejection(SDS, name, response.version, error.reason, b""))
            except Exception as error:  # noqa: BLE001 - nothing of ours ends what serves
                # Its text is not shown: it may hold what was being read.
                rejected.append(Rejection(SDS, name, response.version, own_fault(error, shown=False), b""))
            else:
                rejections.pop(ref, None)
        rejections.update({SecretRef(one.name, source): one for one in rejected if not one.name.startswith("(")})
        if not rejected:
            self._versions[source] = response.version
        self._replace(secrets, rejections, before.wanted, moved=secrets != before.secrets)
        return tuple(rejected)

    def _replace(
        self,
        secrets: dict[SecretRef, Secret],
        rejections: dict[SecretRef, Rejection],
        wanted: frozenset[SecretRef],
        *,
        moved: bool,
    ) -> None:
        self._snapshot = SecretSnapshot(
            self._snapshot.generation + moved, MappingProxyType(secrets), wanted, MappingProxyType(rejections)
        )
        if moved:
            for callback in tuple(self._listeners):
                callback(self._snapshot)
