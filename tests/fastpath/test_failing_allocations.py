"""Each allocation of the data side fails once, in a whole life of it: it is told, and the next connection is served."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Those of OpenSSL are tens of thousands: each so-manieth of them fails, which is another one where a life changes.
OPENSSL_STEP = 997

pytestmark = pytest.mark.skipif("san.so" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer has its own malloc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is preloaded."""
    built = tmp_path_factory.mktemp("library") / "failing_malloc.so"
    command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-pthread", str(HERE / "failing_malloc.c")]
    subprocess.run([*command, "-o", str(built)], check=True, timeout=60)
    return built


def lives(library: Path, kind: str, step: int) -> list[dict[str, Any]]:
    """One for each allocation that fails, the last without any."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fastpath.failing_allocations", kind, "0", str(step)],
        cwd=ROOT,
        # The checkout's own name of its packages, where this build is not the installed one.
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, (ran.stderr[-3000:], ran.stdout[-500:])
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert not found[-1]["fired"]
    assert found[-1]["served"] == {"plain": True, "tls": True, "later": True}
    return found


def test_each_allocation_of_ours_fails_once(library: Path) -> None:
    found = lives(library, "ours", 1)
    # Less would mean that not all of it was looked at.
    assert len(found) > 80
    failed = found[:-1]
    assert all(one["fired"] for one in failed)
    assert [one for one in failed if one["next"] not in (None, [True, True])] == []
    assert {told for one in failed for told in one["told"]} <= {"MemoryError", "ENOMEM"}
    assert all(one["told"] for one in failed if one["next"] is None)
    silent = [one for one in failed if not (one["told"] or one["counted"] or one["dropped"])]
    # Histograms of a cluster and bytes of its endpoints are counted from its first connection on, and else its second.
    assert all(one["served"] == {"plain": True, "tls": True, "later": True} for one in silent)
    assert {one["place"].rpartition("/")[2].partition(".")[0] for one in silent} <= {"cluster_slots", "endpoint_state"}
    assert len(silent) <= 3
    assert [one for one in found if one["live"] != found[-1]["live"]] == []


def test_allocations_of_openssl_that_fail_end_one_connection_at_most(library: Path) -> None:
    found = lives(library, "openssl", OPENSSL_STEP)
    assert len(found) > 5
    assert [one for one in found if one["next"] not in (None, [True, True])] == []
    for one in found:
        assert one["told"] or one["counted"] or all(one["served"].values()), one
