"""One lab for all tests of this folder; a table of what was seen at the end.

EASTGATE_LAB_KEEP=1 uses a lab that is up, and leaves it up.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.errors import LabError
from lab.lab import Lab, obstacle
from lab.settings import CLUSTERS, GKE, ROOT, Proxies, from_environment

from .mesh import Mesh
from .pairs import Pairs

LOGS = ROOT / "build/lab-logs"
HEAD = ("stage", "client", "expected", "seen", "endpoints")
TABLE: list[tuple[str, ...]] = []


def unavailable(reason: str) -> None:
    """Fails where the lab must run, and skips by name elsewhere."""
    if os.environ.get("CI"):
        pytest.exit(f"lab: {reason}", returncode=2)
    pytest.skip(f"no lab: {reason}")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Both clusters, up. What an earlier run left behind is ended first; logs are kept when something fails."""
    if reason := obstacle():
        unavailable(reason)
    one = Lab(replace(from_environment(), proxies=dict.fromkeys(CLUSTERS, Proxies())))
    keep = bool(os.environ.get("EASTGATE_LAB_KEEP"))
    with one.alone():
        try:
            if not keep:
                one.down()
            one.up()
        except LabError as error:
            one.save_logs(LOGS)
            one.down()
            # The sentence says it: no traceback of the lab's own.
            pytest.exit(f"lab: {error} (logs: {LOGS})", returncode=2)
        yield one
        if request.session.testsfailed:
            one.save_logs(LOGS)
        if not keep:
            one.down()


@pytest.fixture(scope="session")
def _mesh(lab: Lab) -> Mesh:
    return Mesh(lab, TABLE)


@pytest.fixture
def mesh(_mesh: Mesh) -> Iterator[Mesh]:
    """The mesh without rules."""
    _mesh.reset()
    yield _mesh
    _mesh.reset()


@pytest.fixture(scope="session")
def pairs(lab: Lab) -> Pairs:
    """Clients and servers beside either proxy, in one cluster; started by the first test that asks."""
    one = Pairs(lab.kubectl[GKE.name])
    one.start()
    return one


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of stages."""
    if not TABLE:
        return
    terminalreporter.section("what the clients saw")
    rows = [HEAD, *TABLE]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        terminalreporter.write_line(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
