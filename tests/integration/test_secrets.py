"""A gateway that is given keys, by pilot-agent's socket and by ADS: what it shows of them, and that no key gets out."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.message import encode, read

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.recordings import CDS, LDS, SDS
from ..support.replay_ads import ReplayThread
from ..support.secrets import SPIFFE, AgentThread, Keyed, ca_secret, keyed, tls_secret
from ..support.waiting import until
from ..xds.test_secret_refs import OVER_ADS, WORKLOAD, sds, socket

NAME = messages.sni("echo")
WEB = "kubernetes://web"
REDACTED = base64.b64encode(b"[redacted]").decode()


class Place:
    """Control plane and agent of a gateway whose cluster wants the workload's key, and a listener that of a website."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log = folder / "access.log"
        self.root, self.workload, self.web = (
            keyed("root"),
            keyed(SPIFFE, days=20.5, serial=0x0F5C),
            keyed("web", serial=0xBEEF),
        )
        self.keys = [self.root, self.workload, self.web]
        self.resources = messages.resources({NAME: []})
        cluster = read("envoy.config.cluster.v3.Cluster", self.resources[CDS][NAME])
        cluster["transport_socket"] = socket("UpstreamTlsContext", **WORKLOAD)
        self.resources[CDS] = {NAME: encode("envoy.config.cluster.v3.Cluster", cluster)}
        listener = read("envoy.config.listener.v3.Listener", self.resources[LDS][messages.LISTENER])
        web = socket(tls_certificate_sds_secret_configs=[sds(WEB, OVER_ADS)])
        chain = encode("envoy.config.listener.v3.FilterChain", {"name": "web", "transport_socket": web})
        listener["filter_chains"] = [*listener["filter_chains"], chain]
        self.resources[LDS] = {messages.LISTENER: encode("envoy.config.listener.v3.Listener", listener)}
        self.resources[SDS] = {WEB: tls_secret(WEB, self.web)}
        self.server = ReplayThread(self.resources)
        self.agent = AgentThread(
            str(folder / "socket"),
            {"default": tls_secret("default", self.workload), "ROOTCA": ca_secret("ROOTCA", self.root.certificate)},
        )

    def close(self) -> None:
        self.server.close()
        self.agent.close()

    def gateway(self, *flags: str) -> Eastgate:
        return Eastgate(
            self.server.address,
            *("--sds-socket", str(self.folder / "socket"), "--state-dir", str(self.state)),
            *("--access-log", str(self.log), "--record", str(self.folder / "journal"), "--log-level", "debug", *flags),
        )

    def rotate(self, pair: Keyed) -> None:
        self.keys.append(pair)
        self.agent.rotate("default", tls_secret("default", pair))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def section(gateway: Eastgate, kind: str, query: str = "") -> dict[str, Any]:
    (found,) = [one for one in gateway.json(f"/config_dump{query}")["configs"] if one["@type"].endswith(kind)]
    assert isinstance(found, dict)
    return found


def active(gateway: Eastgate) -> dict[str, dict[str, Any]]:
    found = gateway.json("/config_dump?resource=dynamic_active_secrets")["configs"]
    return {one["name"]: one for one in found}


def serials(gateway: Eastgate) -> list[str]:
    entries = gateway.json("/certs")["certificates"]
    return [one["serial_number"] for entry in entries for one in entry["cert_chain"]]


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_secrets_are_shown_and_no_key_gets_out(place: Place, protocol: str) -> None:
    with place.gateway("--xds-protocol", protocol) as gateway:
        gateway.wait_ready()
        until(lambda: {"0f5c", "beef"} == set(serials(gateway)), "the certificates are there")
        until(lambda: "ROOTCA" in place.agent.agent.acked, "what to trust is there")
        shown = active(gateway)
        assert set(shown) == {"default", "ROOTCA", WEB}
        own = shown["default"]
        assert own["secret"]["@type"] == SDS
        assert own["secret"]["tls_certificate"] == {
            "certificate_chain": {"inline_bytes": base64.b64encode(place.workload.certificate).decode()},
            "private_key": {"inline_bytes": REDACTED},
        }
        assert (own["version_info"], set(own)) == (
            place.agent.agent.acked["default"],
            {"@type", "name", "version_info", "last_updated", "secret"},
        )
        trusted = shown["ROOTCA"]["secret"]["validation_context"]["trusted_ca"]["inline_bytes"]
        assert base64.b64decode(trusted) == place.root.certificate

        (workload,) = [one for one in gateway.json("/certs")["certificates"] if one["ca_cert"]]
        (own_cert,) = workload["cert_chain"]
        assert own_cert["serial_number"] == "0f5c"
        assert own_cert["subject_alt_names"] == [{"uri": SPIFFE}]
        assert own_cert["days_until_expiration"] == "20"
        expires = datetime.strptime(own_cert["expiration_time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert timedelta(days=20) < expires - datetime.now(UTC) < timedelta(days=21)
        assert own_cert["path"] == "<inline>"
        assert gateway.stat("server.days_until_first_cert_expiring") == 20
        # Of the website's, which is our own too, the end is further away; of what is trusted it does not matter.
        assert 20 * 86400 < gateway.stat("eastgate.certificate_seconds_left") < 21 * 86400

        place.rotate(keyed(SPIFFE, days=5.5, serial=0xABCD))
        until(lambda: "abcd" in serials(gateway), "the rotated certificate is there")
        assert gateway.stat("server.days_until_first_cert_expiring") == 5
        # A key that does not fit, and one too late: named, and the last good one stays.
        wrong = keyed(SPIFFE)
        place.keys.append(wrong)
        place.agent.rotate("default", tls_secret("default", keyed(SPIFFE), key=wrong.key))
        until(lambda: place.agent.agent.nacks, "the bad one is rejected")
        assert "error_state" in active(gateway)["default"]
        place.rotate(keyed(SPIFFE, days=-0.5))
        until(lambda: len(place.agent.agent.nacks) == 2, "the expired one is rejected")
        assert "abcd" in serials(gateway)
        assert gateway.stat("sds.sds-grpc.update_rejected") == 2
        bad = {**place.resources[SDS], WEB: tls_secret(WEB, place.web, key=wrong.key)}
        place.server.push_some(SDS, {WEB: bad[WEB]})
        assert [one.reason for one in place.server.nacks] == [
            f"SDS {WEB} rejected: tls_certificate.private_key is not the key of its certificate"
        ]

        (ledger,) = [one for one in gateway.json("/debug/xds?type=sds")["resources"] if one["name"] == WEB]
        assert (ledger["state"], ledger["rejected"]["reason"]) == (
            "NACKED",
            place.server.nacks[0].reason.split(": ")[1],
        )

        until((place.state / "last-good.state").exists, "the configuration is saved")
        help_text = gateway.get("/help")[1]
        pages = [line.split(" (GET)")[0].strip() for line in help_text.splitlines() if " (GET)" in line]
        assert {"/certs", "/config_dump", "/stats/prometheus"} <= set(pages)
        texts = [gateway.get(page)[1] for page in [*pages, "/config_dump?include_eds", "/stats?format=json"]]
        assert all("envoy.admin.v3" in texts[pages.index(page)] for page in ["/config_dump"])
    written = [path for path in place.folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"last-good.state", "access.log"}
    (journal,) = [path for path in written if path.parent.name == "journal" and path.stat().st_size > 1000]
    assert journal
    found = [text.encode() for text in [*texts, gateway.stderr]] + [path.read_bytes() for path in written]
    check_no_key(found, place.keys)


def check_no_key(found: list[bytes], keys: list[Keyed]) -> None:
    """Neither as PEM, in whatever base64 it was wrapped, nor as the bytes inside."""
    for pair in keys:
        lines = pair.key.splitlines()[1:-1]
        inner = base64.b64decode(b"".join(lines))
        # Three offsets: what base64 makes of a text depends on where it begins.
        wrapped = [base64.b64encode(pair.key[start:])[:40] for start in range(30, 33)]
        for piece in (*lines, inner[20:60], inner[40:80].hex().encode(), *wrapped):
            assert not [text for text in found if piece in text]


def test_the_check_for_keys_finds_them() -> None:
    pair = keyed("a")
    secret = tls_secret("default", pair)
    for text in (secret, base64.b64encode(b"x" + secret), repr(pair.key).encode()):
        with pytest.raises(AssertionError):
            check_no_key([b"nothing", text], [pair])


def test_no_core_file_is_written_once_a_key_is_held(place: Place) -> None:
    with place.gateway() as gateway:
        until(lambda: serials(gateway), "a secret has come")
        limits = Path(f"/proc/{gateway.pid}/limits").read_text().splitlines()
        (core,) = [line for line in limits if line.startswith("Max core file size")]
        assert core.split()[4] == "0"


def test_missing_secrets_are_warming_and_a_gateway_without_a_socket_serves(place: Place) -> None:
    with Eastgate(place.server.address) as gateway:
        gateway.wait_ready()
        until(lambda: serials(gateway) == ["beef"], "the secret of ADS is there")
        assert set(active(gateway)) == {WEB}
        warming = section(gateway, "SecretsConfigDump")["dynamic_warming_secrets"]
        assert [(one["name"], one["version_info"], one["secret"]["name"]) for one in warming] == [
            ("ROOTCA", "uninitialized", "ROOTCA"),
            ("default", "uninitialized", "default"),
        ]
        assert "server.days_until_first_cert_expiring" in gateway.stats()
        place.server.push({**place.resources, LDS: {}}, types=[LDS])
        until(lambda: not serials(gateway), "the secret goes with its listener")
        assert not {"server.days_until_first_cert_expiring", "eastgate.certificate_seconds_left"} & set(gateway.stats())
