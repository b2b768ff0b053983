"""Counters of one stat_prefix, as objects. What is counted in them is tested where headers are read."""

import pickle

import pytest
from eastgate.fastpath.match.proxy_counts import Proxied, ProxyCounts


def test_nothing_is_counted_at_first() -> None:
    assert ProxyCounts().counters() == Proxied(*[0] * len(Proxied._fields))


def test_counters_cannot_be_copied() -> None:
    with pytest.raises(TypeError, match="ProxyCounts cannot be pickled"):
        pickle.dumps(ProxyCounts())
