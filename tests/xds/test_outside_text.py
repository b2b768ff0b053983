import socket

import pytest
import yaml
from eastgate.xds.outside_text import YAML_VALUE_FAULTS, may_be_host


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "a.example.", "ä.example", "a" * 63 + ".b"])
def test_what_the_resolver_takes_may_be_a_host(name: str) -> None:
    assert may_be_host(name)


@pytest.mark.parametrize("name", ["a..b", ".b", "a" * 64, "a\0b", "a\nb", "a\x7fb"])
def test_what_the_resolver_would_raise_for_is_none(name: str) -> None:
    assert not may_be_host(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a.", "a..", "a" * 64 + ".", "a." + "b" * 63, "a." + "b" * 64, "a.b"])
def test_names_of_ascii_are_judged_as_by_the_codec(name: str) -> None:
    try:
        name.encode("idna")
    except UnicodeError:
        assert not may_be_host(name)
    else:
        assert may_be_host(name)


@pytest.mark.parametrize("name", ["a..b", "a" * 64])
def test_the_resolver_raises_what_is_no_oserror(name: str) -> None:
    """The rule would have no reason otherwise."""
    with pytest.raises(ValueError, match=r"label|codec"):
        socket.getaddrinfo(name, 80)


@pytest.mark.parametrize("text", ["2026-02-31", "!!bool x", "!!int ''", "!!timestamp x", "9" * 5000])
def test_what_pyyaml_lets_out_is_among_the_faults(text: str) -> None:
    with pytest.raises(YAML_VALUE_FAULTS) as raised:
        yaml.safe_load(text)
    assert not isinstance(raised.value, yaml.YAMLError)
