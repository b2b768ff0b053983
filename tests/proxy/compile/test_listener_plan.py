"""What a listener is to become: names that its chains lead to, each once, and names of the chains themselves."""

from dataclasses import replace

import pytest
from eastgate.fastpath.match.chains import NO_INSPECTION, Inspection
from eastgate.proxy.compile.listener_plan import chain_spec, clashes, inspection, plan_listener
from eastgate.xds.rbac import RbacFilter, Rules
from eastgate.xds.resources import Listener

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


def test_equal_policies_are_compiled_once() -> None:
    rules = Rules("ALLOW", ())
    first, second = (replace(chain(name), policies=(RbacFilter(rules),)) for name in (NAME, OTHER))
    slots = {NAME: 1, OTHER: 2}
    specs = [chain_spec(one, slots, name=one.name) for one in (first, second, chain())]
    assert specs[0].policies is specs[1].policies is not None
    assert specs[2].policies is None


def test_inspectors_are_what_the_listener_says() -> None:
    one = replace(listener(chain()), tls_skipped_ports=((1, 2),), http_inspector=True, http_skipped_ports=((3, 4),))
    assert inspection(one) == Inspection(tls_skipped=((1, 2),), http=True, http_skipped=((3, 4),))
    assert inspection(listener(chain())) == NO_INSPECTION


def at(name: str, *addresses: tuple[str, int], bind_to_port: bool = True) -> Listener:
    return replace(listener(chain()), name=name, addresses=addresses, bind_to_port=bind_to_port)


def by_name(*listeners: Listener) -> dict[str, Listener]:
    return {one.name: one for one in listeners}


def test_address_of_two_listeners_is_that_of_the_first() -> None:
    one, other = at("a", ("10.0.0.1", 80)), at("b", ("10.0.0.2", 80), ("10.0.0.1", 80))
    assert clashes(by_name(one, other), {}) == {"b": ("10.0.0.1:80", "a")}
    assert clashes(by_name(other, one), {}) == {"a": ("10.0.0.1:80", "b")}


def test_who_has_an_address_keeps_it_whatever_comes_first() -> None:
    one, other = at("a", ("::", 80)), at("b", ("::", 80))
    assert clashes(by_name(one, other), by_name(other)) == {"a": ("[::]:80", "b")}
    # It moves away in the same response, or leaves.
    assert clashes(by_name(one, at("b", ("::", 81))), by_name(other)) == {}
    assert clashes(by_name(one), by_name(other)) == {}


def test_any_port_clashes_with_nobody() -> None:
    assert clashes(by_name(at("a", ("10.0.0.1", 0)), at("b", ("10.0.0.1", 0))), {}) == {}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("port", [0, 80])
def test_without_a_socket_an_address_is_one_listeners_too(port: int, first: bool) -> None:
    """As Envoy has it, whether the other one binds or not; port 0 is none that the kernel would choose."""
    one, other = (
        at("a", ("10.0.0.1", port), bind_to_port=first and port != 0),
        at("b", ("10.0.0.1", port), bind_to_port=False),
    )
    assert clashes(by_name(one, other), {}) == {"b": (f"10.0.0.1:{port}", "a")}


def test_an_address_is_one_however_it_is_written() -> None:
    assert clashes(by_name(at("a", ("::1", 80)), at("b", ("0:0::1", 80))), {}) == {"b": ("[0:0::1]:80", "a")}
