"""An Any, and what a Resource around it says."""

import pytest
from eastgate.xds.decode import CDS
from eastgate.xds.envelope import WRAPPER, Envelope, open_envelope
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode

from .istiod import packed


def wrapper(**fields: object) -> bytes:
    return packed(WRAPPER, encode("envoy.service.discovery.v3.Resource", fields))


def test_an_any_is_what_it_says() -> None:
    assert open_envelope(packed(CDS, b"x")) == Envelope(CDS, b"x")
    assert open_envelope(b"") == Envelope("", b"")


def test_one_wrapper_is_opened() -> None:
    whole = wrapper(name="a", version="7", aliases=["b"], ttl="1.500s", resource=packed(CDS, b"x"))
    assert open_envelope(whole) == Envelope(CDS, b"x", "a", "1.500s")
    # A wrapper in a wrapper is a resource of that type, which nobody asks for.
    assert open_envelope(wrapper(resource=whole)).type_url == WRAPPER


def test_wrapper_without_a_body_says_so() -> None:
    assert open_envelope(wrapper(name="a", ttl="3s")) == Envelope("", b"", "a", "3s", has_body=False)


@pytest.mark.parametrize("raw", [b"\xff", packed(WRAPPER, b"\xff"), wrapper(resource=b"\xff")])
def test_damaged_bytes_are_an_error(raw: bytes) -> None:
    with pytest.raises(XdsError) as caught:
        open_envelope(raw)
    assert caught.value.malformed
