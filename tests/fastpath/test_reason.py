import re
from pathlib import Path

from eastgate.fastpath import reason
from eastgate.fastpath.reason import LABELS, RESPONSE_FLAGS, Reason

REASONS = [member for member in Reason if member is not Reason.REASON_COUNT]
# Envoy's vocabulary as far as this proxy uses it.
FLAGS = {"-", "NR", "NC", "UH", "UO", "OM", "UF,URX", "DC", "DT", "UR", "DPE"}


def test_values_run_from_none_without_gaps():
    assert [member.value for member in REASONS] == list(range(Reason.REASON_COUNT))
    assert Reason.NONE == 0


def test_values_are_stable():
    # Logs, dumps and counters of older versions are read by number: append, never renumber.
    assert [member.name for member in REASONS][:29] == [
        "NONE", "IDLE_PROBE", "NOT_TLS", "HELLO_TIMEOUT", "TRUNCATED_HELLO", "MALFORMED_HELLO", "HELLO_TOO_LARGE",
        "NO_SNI", "MALFORMED_SNI", "UNKNOWN_SERVER_NAME", "ALPN_MISMATCH", "UNKNOWN_CLUSTER", "NO_ENDPOINTS",
        "NONE_HEALTHY", "OVERFLOW", "LIMIT", "POLICY", "CONNECT_FAILED", "CONNECT_TIMEOUT", "MALFORMED_PROXY_HEADER",
        "CLIENT_GONE", "IDLE_TIMEOUT", "DURATION_TIMEOUT", "DRAINED", "PANIC",
        "MANY_PROTOCOLS", "ADDRESS_MISMATCH", "SILENT", "OVERLOAD",
    ]  # fmt: skip


def test_every_reason_has_one_label_of_its_own():
    assert list(LABELS) == REASONS
    assert len(set(LABELS.values())) == len(REASONS)
    # Labels are metric label values: an operator types them.
    assert all(label == member.name.lower() and re.fullmatch("[a-z_]+", label) for member, label in LABELS.items())


def test_every_reason_has_a_response_flag():
    assert list(RESPONSE_FLAGS) == REASONS
    assert set(RESPONSE_FLAGS.values()) <= FLAGS


def test_declaration_and_stub_agree():
    folder = Path(reason.__file__).parent
    numbers = re.compile(r"^    ([A-Z_]+) = (\d+)", re.MULTILINE)
    declared = numbers.findall((folder / "reason.pxd").read_text())
    assert declared == numbers.findall((folder / "reason.pyi").read_text())
    assert declared == [(member.name, str(member.value)) for member in Reason]
