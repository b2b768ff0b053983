"""Which build a crash names, without the modules that usually say so."""

import signal
from importlib.metadata import version
from pathlib import Path

import pytest
from eastgate.proxy.build_info import origin
from eastgate.proxy.last_words import installation, origin_of

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.replay_ads import ReplayThread


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("no JSON", ""),
        ("[]", ""),
        ('{"dir_info": {"editable": true}}', "editable"),
        ('{"dir_info": {}}', ""),
        ('{"vcs_info": {"vcs": "git", "commit_id": "abc"}}', "commit abc"),
    ],
)
def test_origin_of_an_installation(text: str, wanted: str) -> None:
    assert origin_of(text) == wanted


def test_installation_is_that_of_the_metadata() -> None:
    assert installation() == (version("eastgate"), origin())


def test_unknown_where_nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "nowhere")])
    assert installation() == ("", "")


def test_gateway_that_crashes_says_what_it_was() -> None:
    server = ReplayThread(messages.resources({messages.sni("echo"): []}))
    gateway = Eastgate(server.address, "--workers", "1")
    gateway.signal(signal.SIGSEGV)
    assert gateway.wait() == -signal.SIGSEGV
    server.close()
    (line,) = [line for line in gateway.stderr.splitlines() if line.startswith("critical ")]
    assert "signal=SIGSEGV" in line
    assert f"version={version('eastgate')} build=" in line
    assert "Fatal Python error: Segmentation fault" in gateway.stderr
