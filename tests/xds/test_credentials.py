"""Files of credentials: what cannot be used is named, what is rotated is read anew."""

from dataclasses import replace
from pathlib import Path

import pytest
from eastgate.xds.credentials import Credentials
from eastgate.xds.errors import XdsError

from ..support.certificates import FileCa


@pytest.fixture
def ca(tmp_path: Path) -> FileCa:
    return FileCa(tmp_path)


def test_token_is_read_at_each_call_and_never_sent_to_a_socket_or_over_plaintext(ca: FileCa, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    credentials = Credentials(root_cert=str(ca.root), token=str(token), cluster_id="gke")
    credentials.check()
    assert credentials.metadata("h:1") == [("clusterid", "gke"), ("authorization", "Bearer one")]
    token.write_text("two")
    assert credentials.metadata("h:1") == [("clusterid", "gke"), ("authorization", "Bearer two")]
    assert credentials.metadata("unix:/x") == [("clusterid", "gke")]
    assert Credentials(token=str(token)).metadata("h:1") == []


def test_complete_credentials_pass(ca: FileCa) -> None:
    pair = ca.issue("spiffe://cluster.local/ns/gateway/sa/eastwest")
    complete = Credentials(root_cert=str(ca.root), client_cert=str(pair.certificate), client_key=str(pair.key))
    complete.check()
    Credentials().check()
    for field in ("root_cert", "client_cert", "client_key"):
        with pytest.raises(XdsError):
            replace(complete, **{field: ""}).check()


def test_what_cannot_be_used_is_named(ca: FileCa, tmp_path: Path) -> None:
    one, other = ca.issue("one"), ca.issue("other")
    root = str(ca.root)
    empty, missing = tmp_path / "empty", str(tmp_path / "missing")
    empty.write_text("")
    cert, key = str(one.certificate), str(one.key)
    for credentials, field, path, reason in (
        (Credentials(token=missing), "token", missing, "plaintext"),
        (Credentials(client_cert=cert, client_key=key), "client_cert", cert, "plaintext"),
        (Credentials(root_cert=missing), "root_cert", missing, "No such file"),
        (Credentials(root_cert=str(empty)), "root_cert", str(empty), "no PEM certificate"),
        (Credentials(root_cert=key), "root_cert", key, "no PEM certificate"),
        (Credentials(root_cert=root, token=missing), "token", missing, "No such file"),
        (Credentials(root_cert=root, token=str(empty)), "token", str(empty), "no token"),
        (Credentials(root_cert=root, client_cert=cert), "client_cert", cert, "client_key is missing"),
        (Credentials(root_cert=root, client_key=key), "client_key", key, "client_cert is missing"),
        (Credentials(root_cert=root, client_cert=cert, client_key=missing), "client_key", missing, "No such file"),
        (Credentials(root_cert=root, client_cert=cert, client_key=str(other.key)), "client_cert", cert, "MISMATCH"),
    ):
        with pytest.raises(XdsError) as caught:
            credentials.check()
        assert (caught.value.kind, caught.value.resource) == (field, path)
        assert reason in caught.value.reason
