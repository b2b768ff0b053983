"""What a listener is to become: names that its chains lead to, each once, and names of the chains themselves."""

from dataclasses import replace

import pytest
from eastgate.proxy.compile.listener_plan import plan_listener

from .test_compiler import NAME, OTHER, chain, listener

PROD = (("stage", '"prod"'),)


def test_names_and_views_stand_there_once() -> None:
    cut = replace(chain(), criteria=(PROD,))
    spec = plan_listener(replace(listener(chain(), cut, cut, chain(OTHER)), default_filter_chain=chain()))
    assert spec.clusters == (NAME, OTHER)
    assert spec.views == ((NAME, PROD),)


def test_chains_without_names_go_by_their_place() -> None:
    nameless = replace(chain(), name="")
    spec = plan_listener(replace(listener(nameless, chain(OTHER)), default_filter_chain=nameless))
    assert [name for _, name in spec.chains] == ["l#0", OTHER]
    assert spec.default_chain == (nameless, "l#default")


def test_listener_without_default_chain_has_none() -> None:
    assert plan_listener(listener(chain())).default_chain is None


def test_name_with_a_nul_has_no_slot() -> None:
    with pytest.raises(ValueError, match="NUL"):
        plan_listener(listener(chain("a\0b")))
