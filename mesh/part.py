"""What models of Istio's resources are made of: names, units, and what a file said that no model has.

A field that is no field of a model is kept, so that `unread` can name it: nothing of a resource is dropped in silence.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

INT32, UINT32 = 2**31 - 1, 2**32 - 1
LONGEST_S = (2**63 - 1) / 1e9
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:h|ms|m|us|µs|ns|s))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|us|µs|ns|s)")


def seconds(text: object) -> float:
    """Seconds of a Go duration such as "1m30s". Raises ValueError for anything else."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 1s, 500ms or 1m30s")
    found = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    if found > LONGEST_S:
        raise ValueError(f"{text!r} is longer than Go's longest duration, {LONGEST_S:.0f}s")
    return found


TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
"""Texts of annotations that Go reads as true (strconv.ParseBool)."""
Seconds = Annotated[float, BeforeValidator(seconds)]
Port = Annotated[int, Field(ge=1, le=65535)]
Int32 = Annotated[int, Field(ge=0, le=INT32)]
Uint32 = Annotated[int, Field(ge=0, le=UINT32)]
Percent = Annotated[int, Field(ge=0, le=100)]


def subnet(text: str) -> str:
    """An address, or a range of them as "10.0.0.0/8" with or without host bits. Raises ValueError."""
    _, slash, length = text.partition("/")
    if slash and not length.isdecimal():
        raise ValueError(f"{text!r} is no address and no range such as 10.0.0.0/8")
    ip_interface(text)
    return text


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_OBJECT = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOST = re.compile(
    r"(\*|(\*-)?[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)*\.?", re.IGNORECASE
)
LONGEST_NAME = 253


def object_name(text: str) -> str:
    """A name that Kubernetes gives to an object or a namespace. Raises ValueError."""
    if len(text) > LONGEST_NAME or not _OBJECT.fullmatch(text):
        raise ValueError(f"{text[:LONGEST_NAME]!r} is no name of an object: small letters, digits, - and . alone")
    return text


def host_name(text: str) -> str:
    """A name of hosts in a rule, a * first or none. Raises ValueError."""
    if len(text) > LONGEST_NAME or not _HOST.fullmatch(text):
        raise ValueError(f"{text[:LONGEST_NAME]!r} is no name of a host: letters, digits, -, _ and . alone")
    return text


class Part(BaseModel):
    """A message of Istio's API: camel case on the file's side, fields that are not read stay in `model_extra`."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, validate_by_name=False, frozen=True)


class PortSelector(Part):
    """The port that a port level setting is for."""

    number: Port


class Selector(Part):
    """Which workloads a resource is for."""

    match_labels: dict[str, str] = {}


def _names(model: type[BaseModel]) -> Iterator[str]:
    for part in model.__subclasses__():
        yield from (field.alias or "" for field in part.model_fields.values())
        yield from _names(part)


def in_camel_case(content: Any) -> Any:
    """Content of meshConfig or meshNetworks with Istio's names in camel case: protobuf's JSON takes snake case too.

    Only known fields are renamed; names of networks and localities stay as they are.
    """
    known = frozenset(_names(Part))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                (to_camel(key) if "_" in key and to_camel(key) in known else key): renamed(one)
                for key, one in value.items()
            }
        return [renamed(one) for one in value] if isinstance(value, list) else value

    return renamed(content)


def unread(part: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths, in the file's own names, of everything that was given and is not read."""
    if isinstance(part, Part):
        yield from ((*path, name) for name in part.model_extra or ())
        for name, field in type(part).model_fields.items():
            if name in part.model_fields_set:
                yield from unread(getattr(part, name), (*path, field.alias or to_camel(name)))
    elif isinstance(part, list):
        for index, item in enumerate(part):
            yield from unread(item, (*path, index))
    elif isinstance(part, dict):
        for key, item in part.items():
            yield from unread(item, (*path, key))
