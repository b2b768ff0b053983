"""What the kernel does not set closes the cluster, with its reason."""

import socket

import pytest
from eastgate.proxy.compile.cluster_plan import plan_cluster, slot_spec
from eastgate.proxy.compile.socket_trial import why_not_set
from eastgate.xds.bind_config import Bind, FamilyOption

from .test_compiler import assignment, cluster

SET = FamilyOption(4, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)
# Below the least segment that the kernel takes.
UNSET = FamilyOption(4, socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1)
REASON = "upstream_bind_config: TCP_MAXSEG 1 is not set: Invalid argument"


@pytest.mark.parametrize(
    ("options", "reason"), [((), ""), ((SET,), ""), ((SET, UNSET), REASON), ((UNSET._replace(family=6),), REASON)]
)
def test_the_first_option_that_is_not_set_is_named(options: tuple[FamilyOption, ...], reason: str) -> None:
    assert why_not_set(options) == reason


@pytest.mark.parametrize(("option", "closed"), [(SET, ""), (UNSET, REASON)])
def test_a_cluster_without_its_options_is_closed(option: FamilyOption, closed: str) -> None:
    one = cluster(bind=Bind((), (option,)))
    assert plan_cluster(one, assignment(("10.0.0.1", 80)), None).closed == closed
    assert slot_spec(one).as_arguments()["socket_options"] == (option,)
