"""Errors read as one line: what, where, why."""

from eastgate.xds.errors import XdsError


def test_text_names_kind_resource_and_reason() -> None:
    assert str(XdsError("EDS", "c", "locality r1: no")) == "EDS c rejected: locality r1: no"
    assert str(XdsError("DiscoveryResponse", "", "broken")) == "DiscoveryResponse rejected: broken"
