"""Rejections and certificates: each is said once, and again when it changes."""

from datetime import UTC, datetime, timedelta

import pytest
from eastgate.proxy.history.event_log import EventLog
from eastgate.proxy.history.resource_events import ResourceEvents, state_of
from eastgate.xds.decode import CDS
from eastgate.xds.secret import Certificate, Secret, ValidationContext
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.store import Store
from eastgate.xds.tls_records import SecretRef
from envoy_data_plane.google.protobuf import Any as PackedAny

from ...support import messages

NOW = datetime(2026, 3, 4, tzinfo=UTC)
BAD = bytes((6 << 3, 6))  # lb_policy CLUSTER_PROVIDED


def packed(raw: bytes) -> bytes:
    return bytes(PackedAny(type_url=CDS, value=raw))


@pytest.fixture
async def log() -> EventLog:
    return EventLog()


def said(log: EventLog) -> list[tuple[str, str, str]]:
    return [(one.kind.value, one.subject, str(one.after)) for one in log.since(0)]


async def test_a_rejection_is_said_once_and_its_end_too(log: EventLog) -> None:
    events, store = ResourceEvents(log), Store()
    good, new = messages.cluster("old"), messages.cluster("new") + BAD
    for version, resources in (("1", [good]), ("2", [good + BAD, new]), ("2", [good + BAD, new]), ("3", [good, new])):
        store.apply(CDS, version, [packed(one) for one in resources])
        events.accepted(store.snapshot)
        events.accepted(store.snapshot)
    assert said(log)[:2] == [
        ("rejected", "CDS old", "the earlier version serves on"),
        ("rejected", "CDS new", "nothing of it is served"),
    ]
    assert ("accepted", "CDS old", "it serves") in said(log)
    assert "lb_policy" in log.since(0)[0].cause


def certificate(*, life: timedelta, left: timedelta, serial: str = "01") -> Certificate:
    return Certificate(serial, (), NOW + left - life, NOW + left)


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("life", "left", "state"),
    [
        (DAY, timedelta(hours=3), ""),
        (DAY, timedelta(hours=2), "near its end"),
        (DAY, timedelta(0), "expired"),
        (3650 * DAY, 400 * DAY, ""),
        (3650 * DAY, 300 * DAY, "near its end"),
        # A tenth of an hour is too late: ten minutes are the least. Of a life shorter than that it is the half.
        (timedelta(hours=1), timedelta(minutes=9), "near its end"),
        (timedelta(minutes=10), timedelta(minutes=6), ""),
        (timedelta(minutes=10), timedelta(minutes=4), "near its end"),
    ],
)
def test_when_a_certificate_nears_its_end(life: timedelta, left: timedelta, state: str) -> None:
    assert state_of(certificate(life=life, left=left), NOW) == state


async def test_a_certificate_is_named_once_at_each_step_until_it_is_renewed(log: EventLog) -> None:
    events = ResourceEvents(log)

    def snapshot(one: Certificate) -> SecretSnapshot:
        roots = ValidationContext(b"", (one,))
        return SecretSnapshot(secrets={SecretRef("ROOTCA"): Secret("ROOTCA", validation_context=roots)})

    old = certificate(life=DAY, left=timedelta(hours=2))
    for now in (NOW, NOW, NOW + timedelta(hours=2), NOW + timedelta(hours=3)):
        events.look_at_certificates(snapshot(old), now)
    events.look_at_certificates(snapshot(certificate(life=DAY, left=DAY, serial="02")), NOW)
    assert said(log) == [("certificate", "SDS ROOTCA", "near its end"), ("certificate", "SDS ROOTCA", "expired")]
    assert "serial 01" in log.since(0)[0].cause
