"""Hashes against the oracle's, PyPI's xxhash where it is installed, and what Envoy's unit tests say."""

import socket

import pytest
from eastgate.fastpath.tables.hashing import murmur2, source_ip_hash, xxh64
from hypothesis import given
from hypothesis import strategies as st

from ...oracle import hashing as oracle


def test_values_of_envoys_unit_tests() -> None:
    assert [xxh64(text) for text in (b"", b"foo", b"bar", b"lyft")] == [
        17241709254077376921,
        3728699739546630719,
        5234164152756840025,
        4400747396090729504,
    ]
    assert [murmur2(text) for text in (b"foo", b"")] == [9631199822919835226, 6142509188972423790]


@given(st.binary(max_size=200), st.integers(0, (1 << 64) - 1))
def test_xxh64_is_that_of_the_oracle(data: bytes, seed: int) -> None:
    assert xxh64(data, seed) == oracle.xxh64(data, seed)


@given(st.binary(max_size=200), st.integers(0, (1 << 64) - 1))
def test_xxh64_is_that_of_its_library(data: bytes, seed: int) -> None:
    library = pytest.importorskip("xxhash")
    assert xxh64(data, seed) == library.xxh64_intdigest(data, seed)


@given(st.binary(max_size=100))
def test_murmur2_is_that_of_the_oracle(data: bytes) -> None:
    assert murmur2(data) == oracle.murmur2(data)


@given(st.ip_addresses())
def test_clients_are_hashed_by_the_text_of_their_address(address: object) -> None:
    assert source_ip_hash(str(address)) == xxh64(written(str(address)).encode())


def written(address: str) -> str:
    """As inet_ntop does it, which writes mapped and compatible IPv4 addresses with dots."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_ntop(family, socket.inet_pton(family, address))


def test_what_is_no_address_has_no_hash() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        source_ip_hash("a.example")
