"""lb_subset_config as configured, and the metadata that it looks at."""

from typing import Any

import pytest
from eastgate.xds.message import encode
from eastgate.xds.resources import Subsets, SubsetSelector
from eastgate.xds.subsets import decode_subsets, endpoint_metadata, matches


def lb(**values: Any) -> bytes:
    return encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"envoy.lb": values}})


def test_config_without_selectors_is_none() -> None:
    assert decode_subsets(None) is decode_subsets({}) is decode_subsets({"fallback_policy": "ANY_ENDPOINT"}) is None


def test_settings() -> None:
    one = decode_subsets({"subset_selectors": [{"keys": ["b", "a", "b"]}]})
    assert one == Subsets((SubsetSelector(("a", "b")),))
    one = decode_subsets(
        {
            "subset_selectors": [
                {"keys": ["a", "b"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["b"]},
            ],
            "fallback_policy": "DEFAULT_SUBSET",
            "default_subset": {"z": 1.0, "a": "x"},
            "panic_mode_any": True,
        }
    )
    assert one is not None
    assert one.selectors == (SubsetSelector(("a", "b"), "KEYS_SUBSET", ("b",)),)
    assert (one.fallback_policy, one.default_subset, one.panic_mode_any) == (
        "DEFAULT_SUBSET",
        (("a", '"x"'), ("z", "1.0")),
        True,
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"metadata_fallback_policy": "FALLBACK_LIST", "subset_selectors": [{"keys": ["a"]}]}, "FALLBACK_LIST"),
        ({"subset_selectors": [{"keys": ["a"], "single_host_per_subset": True}]}, "single_host_per_subset"),
        ({"subset_selectors": [{"keys": []}]}, "no keys"),
        ({"subset_selectors": [{"keys": ["a"], "fallback_policy": "KEYS_SUBSET"}]}, "fallback_keys_subset of a"),
        (
            {
                "subset_selectors": [
                    {"keys": ["a"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["a"]},
                ]
            },
            "fallback_keys_subset of a",
        ),
    ],
)
def test_what_is_not_supported_or_impossible_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_subsets(config)


def test_values_are_equal_when_kind_and_content_are() -> None:
    assert matches((("a", '"1"'),), {"a": "1"}, list_as_any=False)
    assert not matches((("a", '"1"'),), {"a": 1.0}, list_as_any=False)
    assert not matches((("a", "1.0"),), {"a": True}, list_as_any=False)
    assert not matches((("a", "null"),), {}, list_as_any=False)
    assert matches((), {}, list_as_any=False)
    assert not matches((("a", '"1"'), ("b", '"2"')), {"a": "1"}, list_as_any=False)


def test_list_is_any_of_its_elements_only_where_told() -> None:
    assert not matches((("a", '"1"'),), {"a": ["1", "2"]}, list_as_any=False)
    assert matches((("a", '"1"'),), {"a": ["1", "2"]}, list_as_any=True)
    assert matches((("a", '["1"]'),), {"a": ["1"]}, list_as_any=False)


def test_metadata_of_endpoints_by_address() -> None:
    def endpoint(address: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"endpoint": {"address": address}, **fields}

    at = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    endpoints = [
        endpoint(at, metadata=lb(a="1")),
        endpoint({"pipe": {"path": "/p"}}),
        # Of equal addresses the first one is the endpoint.
        endpoint(at, metadata=lb(a="2")),
    ]
    message = {"endpoints": [{"lb_endpoints": endpoints}]}
    raw = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message)
    assert endpoint_metadata(raw) == {("10.0.0.1", 80): {"a": "1"}, ("/p", 0): {}}
