"""What an xDS message says, as plain data that compares by meaning: Any opened, maps without order."""

from collections.abc import Iterator
from typing import Any

import betterproto2
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy  # noqa: F401  known to Any
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import Struct

TYPED_STRUCT = "type.googleapis.com/udpa.type.v1.TypedStruct"


def meaning(value: Any) -> Any:
    """A message as a dict of the fields that are set; what an Any holds in its place."""
    if isinstance(value, Struct):
        return value.to_dict()
    if isinstance(value, PackedAny):
        return {"@type": value.type_url, "content": _opened(value)}
    if isinstance(value, betterproto2.Message):
        default = type(value)()
        names = value.__dataclass_fields__
        found = {name: getattr(value, name) for name in names if not name.startswith("_")}
        return {name: meaning(one) for name, one in found.items() if one != getattr(default, name)}
    if isinstance(value, list):
        return [meaning(one) for one in value]
    if isinstance(value, dict):
        return {key: meaning(one) for key, one in value.items()}
    return value


def _opened(packed: PackedAny) -> Any:
    if packed.type_url == TYPED_STRUCT:
        inner = PackedAny.parse(packed.value)
        return {"type_url": inner.type_url, "value": Struct.parse(inner.value).to_dict()}
    try:
        return meaning(packed.unpack())
    except (TypeError, KeyError):
        return packed.value


def differences(wanted: Any, got: Any, path: str = "") -> Iterator[str]:
    """One line for each place where two meanings differ."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in sorted({*wanted, *got}):
            if key not in got:
                yield f"{path}/{key}: missing, istiod has {wanted[key]!r}"
            elif key not in wanted:
                yield f"{path}/{key}: istiod does not have {got[key]!r}"
            else:
                yield from differences(wanted[key], got[key], f"{path}/{key}")
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif wanted != got:
        yield f"{path}: istiod has {wanted!r}, the mesh {got!r}"
