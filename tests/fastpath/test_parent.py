"""A process that ends with its parent, whichever way the parent ends, and stays when only a thread of it does."""

import os
import signal
import subprocess
import sys
import threading

from ..support.waiting import until

CHILD = """
import os, sys
parent = os.getppid()
from eastgate.fastpath.parent import end_with
print(os.getpid(), end_with(parent), flush=True)
for line in sys.stdin:
    print("still here", flush=True)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-P", "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
print(child.stdout.readline(), end="", flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_child_of_a_killed_parent_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child, watched = parent.stdout.readline().split()
        assert watched == "True"
        assert alive(int(child))
        parent.send_signal(signal.SIGKILL)
        until(lambda: not alive(int(child)), "the child has ended")


def test_the_end_of_a_thread_of_the_parent_is_no_end() -> None:
    started: list[subprocess.Popen[str]] = []

    def start() -> None:
        command = [sys.executable, "-P", "-c", CHILD]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout is not None
        started[0].stdout.readline()

    # Linux tells the child of the end of the thread that started it.
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (child,) = started
    assert child.stdin is not None
    assert child.stdout is not None
    child.send_signal(signal.SIGRTMIN + 1)
    # It takes the signal before it reads on.
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "still here\n"
    child.communicate()


def test_a_parent_that_is_gone_already_is_told() -> None:
    script = f"import os\nfrom eastgate.fastpath.parent import end_with\nprint(end_with({os.getpid()} + 1))"
    assert subprocess.check_output([sys.executable, "-P", "-c", script], text=True).strip() == "False"
