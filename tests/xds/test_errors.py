"""Errors read as one line: what, where, why."""

from eastgate.xds.errors import XdsError


def test_text_names_kind_resource_and_reason() -> None:
    assert str(XdsError("EDS", "c", "locality r1: no")) == "EDS c rejected: locality r1: no"
    assert str(XdsError("DiscoveryResponse", "", "broken")) == "DiscoveryResponse rejected: broken"


def test_what_was_sent_ends_no_line() -> None:
    error = XdsError("CDS", "a\nb", "type x\r\n\u2028 is not supported")
    assert error.reason == "type x\\r\\n\\u2028 is not supported"
    assert str(error) == "CDS a\\nb rejected: type x\\r\\n\\u2028 is not supported"
    # Whoever finds the resource again needs the name as it is.
    assert error.resource == "a\nb"
