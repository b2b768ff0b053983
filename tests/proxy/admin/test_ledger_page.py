"""The table and the command over the ledger's document."""

import pytest
from eastgate.insight.errors import DumpError
from eastgate.proxy.admin.ledger_page import age_text, ledger_text, query_error

TYPE = {
    "version": "v1",
    "nonce": "n1",
    "age_s": 90.0,
    "acks": 2,
    "nacks": 1,
    "rejections": 1,
    "resources": {"acked": 0, "nacked": 1, "requested": 0, "restored": 0},
}
DOCUMENT = {
    "stream": {
        "connected": True,
        "address": "127.0.0.1:15010",
        "protocol": "delta",
        "since_s": 7300.0,
        "connects": 2,
        "last_error": "",
        "types": {"EDS": TYPE},
    },
    "resources": [
        {
            "type": "EDS",
            "name": "a",
            "state": "NACKED",
            "accepted": {"version": "v1", "nonce": "n" * 60, "age_s": 90.0, "at": ""},
            "rejected": {"version": "v2", "nonce": "n2", "age_s": 3.2, "at": "", "reason": "malformed message"},
        }
    ],
}


def test_table_shows_state_ages_and_reason() -> None:
    lines = ledger_text(DOCUMENT, "http://x").splitlines()
    assert lines[0] == "connected to 127.0.0.1:15010 for 2h1m, delta, 2 streams so far"
    assert lines[1] == "EDS: 1 nacked; version v1, accepted 90s ago; 2 ACK, 1 NACK"
    assert lines[4].split() == ["EDS", "NACKED", "a", "v1", "90s", "n" * 24, "v2", "3s", "malformed", "message"]


@pytest.mark.parametrize("document", [None, [], {}, {"resources": [{}], "stream": {}}])
def test_another_document_is_refused_by_its_source(document: object) -> None:
    with pytest.raises(DumpError, match="http://x: not a ledger"):
        ledger_text(document, "http://x")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "-"), (0.4, "0s"), (119, "119s"), (120, "2m0s"), (7200, "2h0m"), (200_000, "2d7h")]
)
def test_ages(seconds: float | None, shown: str) -> None:
    assert age_text(seconds) == shown


def test_bad_query_is_named() -> None:
    assert query_error({"type": "eds", "state": "NACKED", "format": "text"}) == ""
    assert query_error({"state": "odd"}) == "state 'odd' is none of acked, nacked, requested, restored"
