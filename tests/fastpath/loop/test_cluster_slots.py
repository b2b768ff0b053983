"""Slots by name, and views: slots with a table of their own and the state of another cluster."""

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.reason import Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..driven_engine import SERVICE, Gateway, accept, client_hello, columns, upstream


def test_slot_is_that_of_its_name_until_the_last_holder_is_gone() -> None:
    slots = ClusterSlots(2)
    slot = slots.acquire("a")
    assert slots.acquire("a") == slot
    assert "a" in slots
    slots.release(slot)
    assert "a" in slots
    slots.release(slot)
    assert "a" not in slots
    assert len(slots) == 0
    with pytest.raises(ValueError, match="is not in use"):
        slots.release(slot)


def test_view_has_a_slot_and_a_name_of_its_own_and_the_state_of_its_cluster() -> None:
    slots = ClusterSlots(4)
    base = slots.acquire("a")
    view = slots.acquire("a/view", view_of=base)
    assert view != base
    assert slots.acquire("a/view", view_of=base) == view
    assert slots.counters(view).name == "a"
    slots.release(base)
    # The state outlives the slot that it came with.
    assert slots.counters(view).name == "a"
    slots.release(view)
    slots.release(view)
    assert len(slots) == 0
    with pytest.raises(ValueError, match="is not in use"):
        slots.acquire("b", view_of=base)


@pytest.mark.parametrize("workers", [0, 1])
def test_connections_through_a_view_count_in_its_cluster(workers: int) -> None:
    hello = client_hello()
    with upstream() as server:
        gateway = Gateway(workers=workers)
        view = gateway.slots.acquire("view", view_of=gateway.slot)
        gateway.slots.publish(gateway.slot, ClusterTable.compile(columns()), max_connections=1)
        gateway.slots.publish(view, ClusterTable.compile(columns(server.getsockname())), max_connections=1)
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(view))
        with gateway.connect(hello):
            gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_active == 1)
            with accept(server) as endpoint:
                assert gateway.receive(endpoint, len(hello)) == hello
                # The limit is one for both.
                gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot))
                with gateway.connect(hello) as refused:
                    assert gateway.end_of(refused) == "RST"
        assert gateway.refused(Reason.OVERFLOW) == 1
        assert gateway.slots.counters(view).cx_overflow == 1
        assert gateway.slots.counters(view).name == SERVICE
        gateway.close()
