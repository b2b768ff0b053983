"""What stands in the sections of a config_dump: entries with their versions, errors and notices. Makes no text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from eastgate.proxy.bootstrap_dump import static_clusters, static_listeners, static_routes
from eastgate.proxy.compile.notices import Notices
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS
from eastgate.xds.message import encode
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot
from eastgate.xds.secret import SECRET
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.tls_records import SecretRef

from .dumps import timestamp
from .rendering import Resource

NO_SECRETS = SecretSnapshot()
NO_NOTICES: Mapping[tuple[str, str], Notices] = MappingProxyType({})


@record
class Entry:
    """One item of a repeated field. ``path``: where in `fields` the text of `resource` belongs, if it has one."""

    name: str
    fields: dict[str, Any]
    path: tuple[str, ...] = ()
    resource: Resource | None = None


@record
class Section:
    """One section: plain fields, and repeated ones whose items are made when they are asked for."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Iterable[Entry]] = field(default_factory=dict)


def sections(
    snapshot: Snapshot,
    bootstrap: Mapping[str, Any],
    secrets: SecretSnapshot = NO_SECRETS,
    notices: Mapping[tuple[str, str], Notices] = NO_NOTICES,
    *,
    endpoints: bool = False,
) -> list[Section]:
    """The sections that a gateway has, those of endpoints where they are asked for."""
    found, versions = _Resources(snapshot, notices), snapshot.versions
    held: dict[str, Iterable[Entry]] = {"dynamic_endpoint_configs": found.endpoints()}
    return [
        Section("BootstrapConfigDump", {"bootstrap": dict(bootstrap)}),
        Section(
            "ClustersConfigDump",
            {"version_info": versions.get(CDS, "")},
            {
                "static_clusters": _static("cluster", static_clusters(bootstrap)),
                "dynamic_active_clusters": found.clusters(warming=False),
                "dynamic_warming_clusters": found.clusters(warming=True),
            },
        ),
        *([Section("EndpointsConfigDump", {}, held)] if endpoints else []),
        Section(
            "ListenersConfigDump",
            {"version_info": versions.get(LDS, "")},
            {
                "static_listeners": _static("listener", static_listeners(bootstrap)),
                "dynamic_listeners": found.listeners(),
            },
        ),
        Section("ScopedRoutesConfigDump"),
        Section(
            "RoutesConfigDump",
            {},
            {"static_route_configs": found.inline_routes(bootstrap), "dynamic_route_configs": found.routes()},
        ),
        Section(
            "SecretsConfigDump",
            {},
            {"dynamic_active_secrets": _active_secrets(secrets), "dynamic_warming_secrets": _warming_secrets(secrets)},
        ),
    ]


class _Resources:
    """Entries of what istiod has sent: accepted ones, and rejected ones that have no earlier version."""

    def __init__(self, snapshot: Snapshot, notices: Mapping[tuple[str, str], Notices]) -> None:
        self._snapshot = snapshot
        self._notices = notices
        self._rejected = {
            (one.type_url, one.name): {"error_state": {"details": one.reason, "version_info": one.version}}
            for one in snapshot.rejections
        }

    def clusters(self, *, warming: bool) -> Iterator[Entry]:
        snapshot = self._snapshot
        found = [one for one in snapshot.clusters.values() if (one.name in snapshot.warming) is warming]
        for cluster in (*found, *(snapshot.waiting.values() if warming else ())):
            fields = {**self._version(CDS), **self._said(CDS, "CDS", cluster.name)}
            yield Entry(cluster.name, fields, ("cluster",), (CDS, cluster.raw))
        if warming:
            yield from self._never_accepted(CDS, {**snapshot.clusters, **snapshot.waiting})

    def endpoints(self) -> Iterator[Entry]:
        for assignment in self._snapshot.assignments.values():
            fields = dict(self._rejected.get((EDS, assignment.cluster_name), {}))
            yield Entry(assignment.cluster_name, fields, ("endpoint_config",), (EDS, assignment.raw))
        yield from self._never_accepted(EDS, self._snapshot.assignments)

    def listeners(self) -> Iterator[Entry]:
        for one in self._snapshot.listeners.values():
            fields = {"name": one.name, "active_state": self._version(LDS), **self._said(LDS, "LDS", one.name)}
            yield Entry(one.name, fields, ("active_state", "listener"), (LDS, one.raw))
        yield from self._never_accepted(LDS, self._snapshot.listeners)

    def inline_routes(self, bootstrap: Mapping[str, Any]) -> Iterator[Entry]:
        """Those of the bootstrap, and those that stand in listeners."""
        yield from _static("route_config", static_routes(bootstrap))
        for listener in self._snapshot.listeners.values():
            for chain in (*listener.filter_chains, listener.default_filter_chain):
                if chain is not None and chain.route_config is not None:
                    routes = chain.route_config
                    yield Entry(routes.name, {}, ("route_config",), (RDS, routes.raw))

    def routes(self) -> Iterator[Entry]:
        for one in self._snapshot.routes.values():
            fields = {**self._version(RDS), **self._said(RDS, "RDS", one.name)}
            yield Entry(one.name, fields, ("route_config",), (RDS, one.raw))
        yield from self._never_accepted(RDS, self._snapshot.routes)

    def _version(self, type_url: str) -> dict[str, Any]:
        return {"version_info": self._snapshot.versions.get(type_url, "")}

    def _said(self, type_url: str, kind: str, name: str) -> dict[str, Any]:
        """Why its newest version was rejected, and what eastgate says of the one that serves."""
        notices = self._notices.get((kind, name), ())
        said = {"eastgate_notices": [one.as_json() for one in notices]} if notices else {}
        return {**self._rejected.get((type_url, name), {}), **said}

    def _never_accepted(self, type_url: str, held: Mapping[str, object]) -> Iterator[Entry]:
        """What was rejected and has no earlier version, as Envoy shows it: with what failed."""
        for (kind, name), state in self._rejected.items():
            if kind == type_url and name not in held:
                rejections = self._snapshot.rejections
                raw = next(one.raw for one in rejections if (one.type_url, one.name) == (kind, name))
                fields = {"name": name, **state} if kind == LDS else dict(state)
                yield Entry(name, fields, ("error_state", "failed_configuration"), (kind, raw))


def _static(field: str, found: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Entry]:
    for name, resource in found:
        yield Entry(name, {field: resource})


def _active_secrets(secrets: SecretSnapshot) -> Iterator[Entry]:
    for ref, secret in secrets.secrets.items():
        fields = {
            "name": secret.name,
            "version_info": secret.version,
            "last_updated": timestamp(secret.updated.timestamp()),
            **_failed_secret(secrets, ref),
        }
        yield Entry(secret.name, fields, ("secret",), (SDS, secret.public))


def _warming_secrets(secrets: SecretSnapshot) -> Iterator[Entry]:
    for ref in sorted(secrets.missing):
        fields = {"name": ref.name, "version_info": "uninitialized", **_failed_secret(secrets, ref)}
        yield Entry(ref.name, fields, ("secret",), (SDS, encode(SECRET, {"name": ref.name})))


def _failed_secret(secrets: SecretSnapshot, ref: SecretRef) -> dict[str, Any]:
    one = secrets.rejections.get(ref)
    return {} if one is None else {"error_state": {"details": one.reason, "version_info": one.version}}
