"""Signals that come while modules are still loaded: sent from within, when a certain module is asked for."""

import os
import signal
import subprocess
import sys

import pytest

# Among the imports of the command line itself, and among those of a command.
EARLY, LATE = "click", "eastgate.proxy.app"


def ended(entry: str, *arguments: str, at: str, number: int, before: str = "", first: bool = False) -> tuple[int, str]:
    """Exit code and stderr of an entry point that is sent a signal when `at` is imported.

    ``before``: what is done before all that; ``first``: it is process 1, where SIGTERM is dropped without a handler.
    """
    code = (
        f"import os, signal, sys\n{before}\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {at!r}:\n"
        f"            os.kill(os.getpid(), {number})\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"from eastgate.commands.entry import {entry}\n"
        f"sys.argv = ['eastgate', *{list(arguments)!r}]\n"
        f"{entry}()\n"
    )
    namespace = ("unshare", "--pid", "--fork") if first else ()
    run = subprocess.run(
        [*namespace, sys.executable, "-P", "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return run.returncode, run.stderr.strip()


GATEWAY = ("gateway", "--discovery", "127.0.0.1:1", "--admin", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("entry", "arguments", "at", "code"),
    [
        ("main", ("--help",), EARLY, 130),
        ("envoy", ("--version",), EARLY, 130),
        ("main", GATEWAY, LATE, 130),
    ],
)
def test_ctrl_c_among_imports_is_no_traceback(entry: str, arguments: tuple[str, ...], at: str, code: int) -> None:
    assert ended(entry, *arguments, at=at, number=signal.SIGINT) == (code, "")


def test_who_is_to_ignore_ctrl_c_goes_on() -> None:
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert ended("main", "--help", at=EARLY, number=signal.SIGINT, before=before) == (0, "")


def test_sigterm_ends_a_process_that_has_just_been_started() -> None:
    assert ended("main", "--help", at=EARLY, number=signal.SIGTERM) == (-signal.SIGTERM, "")


@pytest.mark.parametrize(("arguments", "at"), [(("--help",), EARLY), (GATEWAY, LATE)])
def test_sigterm_ends_the_first_process_of_a_container_too(arguments: tuple[str, ...], at: str) -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root: a process namespace")
    assert ended("main", *arguments, at=at, number=signal.SIGTERM, first=True) == (143, "")
