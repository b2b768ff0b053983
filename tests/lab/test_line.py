"""The line that spoils what it carries: what it flips, where it cuts, and that it is a relay otherwise."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from lab import faults, gateways, istio, line
from lab.kubectl import named
from lab.settings import GKE

DATA = bytes(1 << 20)


def spoilt(order: str) -> tuple[list[bytes], line.Spoiler]:
    one = line.Spoiler(random.Random(1))
    one.obey(order)
    return [one.spoil(DATA[:4096])[0] for _ in range(256)], one


def test_clean_line_changes_nothing() -> None:
    parts, one = spoilt("clean")
    assert b"".join(parts) == DATA
    assert one.done == {"bytes": len(DATA)}


@pytest.mark.parametrize(("order", "bits"), [("noise", set(range(8))), ("marks", {7})])
def test_single_bits_are_flipped_as_often_as_said(order: str, bits: set[int]) -> None:
    parts, one = spoilt(order)
    changed = [byte for part in parts for byte in part if byte]
    assert {byte.bit_length() - 1 for byte in changed} == bits
    assert all(byte.bit_count() == 1 for byte in changed)
    # A cut takes some with it. 256 and 16 are expected.
    assert 190 < len(changed) <= one.done["flips"] < 330
    assert 6 < one.done["cuts"] < 30
    assert len([part for part in parts if len(part) < 4096]) == one.done["cuts"]


def test_orders_are_answered_and_the_end_of_orders_ends_it() -> None:
    words = [sys.executable, str(Path(line.__file__)), "127.0.0.1", "127.0.0.1", "0"]
    done = subprocess.run(words, input="noise\nclean\nend\n", text=True, capture_output=True, timeout=20, check=True)
    assert done.stdout == "{}\n{}\n"


@pytest.mark.parametrize(("port", "secret"), [(istio.PLAIN_PORT, False), (istio.TLS_PORT, True)])
def test_gateway_behind_the_line_knows_istiod_by_its_name(port: int, secret: bool) -> None:
    pod = named(faults.behind(GKE, port), "Deployment", gateways.NAME)["spec"]["template"]["spec"]
    assert pod["hostAliases"] == [{"ip": GKE.node_ip, "hostnames": [faults.ISTIOD_HOST]}]
    arguments = pod["containers"][0]["args"]
    assert f"--discovery={faults.ISTIOD_HOST}:{port}" in arguments
    assert [word.partition("=")[0] for word in arguments].count("--token-file") == secret
    assert [word.partition("=")[0] for word in arguments].count("--discovery-root-cert") == secret
