"""What stands for endpoints in rings and Maglev tables. Settings: test_decode_cluster."""

from eastgate.xds.hashing import endpoint_hash_keys, hash_key, is_prime
from eastgate.xds.message import encode

ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
METADATA = "envoy.config.core.v3.Metadata"


def one(host: str, *, hostname: str = "", key: object = None) -> dict[str, object]:
    found: dict[str, object] = {
        "endpoint": {"hostname": hostname, "address": {"socket_address": {"address": host, "port_value": 80}}}
    }
    if key is not None:
        found["metadata"] = encode(METADATA, {"filter_metadata": {"envoy.lb": {"hash_key": key}}})
    return found


def assigned(*endpoints: dict[str, object]) -> bytes:
    return encode(ASSIGNMENT, {"cluster_name": "c", "endpoints": [{"lb_endpoints": list(endpoints)}]})


def test_metadata_wins_over_the_host_name_and_only_as_text() -> None:
    assert hash_key("key", "name", use_hostname=True) == "key"
    assert hash_key(None, "name", use_hostname=True) == hash_key(7.0, "name", use_hostname=True) == "name"
    assert hash_key("", "name", use_hostname=False) == hash_key(None, "", use_hostname=True) == ""


def test_keys_are_found_by_address() -> None:
    raw = assigned(one("10.0.0.1", key="a"), one("10.0.0.2", hostname="b"), one("2001:DB8::1", hostname="c", key=3.0))
    assert endpoint_hash_keys(raw, use_hostname=False) == {("10.0.0.1", 80): b"a"}
    assert endpoint_hash_keys(raw, use_hostname=True) == {
        ("10.0.0.1", 80): b"a",
        ("10.0.0.2", 80): b"b",
        ("2001:db8::1", 80): b"c",
    }


def test_the_first_of_equal_addresses_counts() -> None:
    raw = assigned(one("10.0.0.1"), one("10.0.0.1", key="late"))
    assert endpoint_hash_keys(raw, use_hostname=False) == {}


def test_primes() -> None:
    assert [n for n in range(30) if is_prime(n)] == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert is_prime(65537)
    assert is_prime(5000011)
