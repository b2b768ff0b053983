"""What a process says when a fatal signal ends it, and that it ends by that signal."""

import re
import signal
import subprocess
import sys

import pytest
from eastgate.fastpath.last_words import arm

PROGRAM = """
import faulthandler, os, sys, threading
from eastgate.fastpath.last_words import arm
arm('version=1.2.3 build="commit abc"')
if sys.argv[2] == "with":
    faulthandler.enable()
number = int(sys.argv[1])
if sys.argv[2] == "thread":
    thread = threading.Thread(target=lambda: os.kill(os.getpid(), number))
    thread.start()
    thread.join()
else:
    os.kill(os.getpid(), number)
import time
time.sleep(10)
"""


@pytest.mark.parametrize("how", ["alone", "with", "thread"])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE])
def test_one_line_with_version_and_build_and_an_end_by_the_signal(number: signal.Signals, how: str) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(int(number)), how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == -number
    said = [line for line in run.stderr.splitlines() if line.startswith("critical ")]
    (line,) = said
    assert re.fullmatch(
        rf'critical fatal signal, ending signal={number.name} at=\d{{10}} version=1\.2\.3 build="commit abc"', line
    )
    # The stack of the interpreter beside it.
    assert ("Current thread" in run.stderr) is (how == "with")


@pytest.mark.parametrize("text", ["a\nb", "x" * 600, "\x00"])
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no line"):
        arm(text)
