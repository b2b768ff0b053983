"""The native reader against Google's protobuf on random messages of every type in the schema, whole and damaged."""

import math
import random
from typing import Any

import pytest
from eastgate.xds import message
from eastgate.xds.errors import XdsError
from eastgate.xds.schema import ENUMS, MESSAGES
from eastgate.xds.wire import unknown_fields
from google.protobuf.message import DecodeError

from .protobuf_messages import Oracle

ORACLE = Oracle(MESSAGES, ENUMS)
# Accepts any bytes in opaque fields, as we do.
LENIENT = Oracle(MESSAGES, ENUMS, opaque_as_bytes=True)
# Their parts are read by hand elsewhere: Any is a message of the schema and a kind of field.
NAMES = sorted(name for name in MESSAGES if name != "google.protobuf.Any")
ROUNDS = 60


def same(ours: Any, theirs: Any, *, more: bool = False) -> bool:
    """Equality in which NaN equals itself. With `more`, ours may have further keys."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys_fit = ours.keys() >= theirs.keys() if more else ours.keys() == theirs.keys()
        return keys_fit and all(same(ours[key], theirs[key], more=more) for key in theirs)
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = zip(ours, theirs, strict=False)
        return len(ours) == len(theirs) and all(same(one, other, more=more) for one, other in pairs)
    if isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours):
        return math.isnan(theirs)
    return bool(ours == theirs)


def without_unknown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_unknown(one) for key, one in value.items() if key != "@unknown"}
    return [without_unknown(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_random_messages_read_alike(name: str) -> None:
    for seed in range(ROUNDS):
        theirs = ORACLE.random_message(name, random.Random(seed))
        ours = message.read(name, theirs.SerializeToString())
        assert same(ours, ORACLE.plain(name, theirs)), seed
        assert unknown_fields(ours) == []


@pytest.mark.parametrize("name", NAMES)
def test_two_messages_one_behind_the_other_merge_alike(name: str) -> None:
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        data = b"".join(ORACLE.random_message(name, rng).SerializeToString() for _ in range(2))
        try:
            theirs = ORACLE.plain(name, ORACLE.classes[name].FromString(data))
        except DecodeError:
            # Two Anys of different types merged: type of one, fields of both.
            continue
        except ValueError:
            # Two durations whose nanoseconds and seconds do not go together: no JSON for it, no seconds for us.
            continue
        assert same(without_unknown(message.read(name, data)), theirs), seed


@pytest.mark.parametrize("name", NAMES)
def test_written_messages_are_read_by_protobuf(name: str) -> None:
    for seed in range(ROUNDS):
        theirs = ORACLE.random_message(name, random.Random(seed))
        plain = ORACLE.plain(name, theirs)
        again = ORACLE.classes[name].FromString(message.encode(name, plain))
        assert same(ORACLE.plain(name, again), plain), seed


@pytest.mark.parametrize("name", NAMES)
def test_damaged_messages_are_accepted_only_where_protobuf_does(name: str) -> None:
    accepted, overlooked = 0, 0
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        data = bytearray(ORACLE.random_message(name, rng).SerializeToString())
        for _ in range(rng.randint(1, 3)):
            if data and rng.random() < 0.8:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            elif data:
                del data[rng.randrange(len(data)) :]
        try:
            ours = message.read(name, bytes(data))
        except XdsError:
            continue
        accepted += 1
        try:
            LENIENT.classes[name].FromString(bytes(data))
        except DecodeError:
            # We do not look into a sub-message that a later member of its oneof has replaced.
            overlooked += 1
            continue
        try:
            theirs = ORACLE.plain(name, ORACLE.classes[name].FromString(bytes(data)))
        except DecodeError:
            # The damage is inside an opaque field.
            continue
        # upb drops a map entry with an unknown field in it; we keep it, as the C++ library and so Envoy does.
        assert same(without_unknown(ours), theirs, more=True), seed
    assert overlooked * 20 <= accepted
