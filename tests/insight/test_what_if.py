"""Outages: what they hit, and that the hit endpoints get nothing."""

import pytest
from eastgate.insight.cluster_model import CompiledModel, compile_model, shares_by_priority
from eastgate.insight.what_if import apply_outages, parse_outages

from .models import recorded

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"


@pytest.fixture
def echo() -> CompiledModel:
    """Two pods in tokyo-onprem at P0, a gateway to asia-northeast1 at P1."""
    return compile_model(recorded("2-failover", "anthos-sidecar", ECHO))


# The recorded stages 3 and 4 are these outages really happening: 70/30 and 0/100.
@pytest.mark.parametrize(
    ("texts", "shares"),
    [
        (["down=10.10.2.59:8080"], {0: 0.7, 1: 0.3}),
        (["down=10.10.2.59"], {0: 0.7, 1: 0.3}),
        (["down=10.10.2.59,down=10.10.3.80"], {0: 0.0, 1: 1.0}),
        (["down=10.10.2.59", "down=10.10.3.80"], {0: 0.0, 1: 1.0}),
        (["region=tokyo-onprem"], {0: 0.0, 1: 1.0}),
        (["locality=tokyo-onprem"], {0: 0.0, 1: 1.0}),
        (["priority=0"], {0: 0.0, 1: 1.0}),
        (["priority=P1"], {0: 1.0, 1: 0.0}),
        (["zone=asia-northeast1-a"], {0: 1.0, 1: 0.0}),
        (["zone=asia-northeast1/asia-northeast1-a"], {0: 1.0, 1: 0.0}),
        (["cluster=gke"], {0: 1.0, 1: 0.0}),
        (["cluster=gke, region=tokyo-onprem"], {0: 0.0, 1: 0.0}),
    ],
)
def test_outage_moves_traffic(echo: CompiledModel, texts: list[str], shares: dict[int, float]) -> None:
    after = apply_outages(echo, parse_outages(texts))
    assert shares_by_priority(after) == pytest.approx(shares)


def test_the_cluster_before_is_untouched(echo: CompiledModel) -> None:
    before = list(echo.table.shares())
    apply_outages(echo, parse_outages(["priority=0"]))
    assert list(echo.table.shares()) == before


@pytest.mark.parametrize("text", ["", "10.10.2.59", "down=", "host=10.10.2.59", "down=10.10.2.59,,"])
def test_what_is_no_outage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is none of down="):
        parse_outages([text])


def test_outage_that_hits_nothing_names_what_there_is(echo: CompiledModel) -> None:
    with pytest.raises(ValueError, match=r"down=10\.10\.2\.95: no such endpoint; there is 10\.10\.2\.59:8080"):
        apply_outages(echo, parse_outages(["down=10.10.2.95"]))
