"""A process that holds keys leaves no image of itself, whatever the limit for core files says."""

import resource
import subprocess
import sys

SCRIPT = """
import os, resource, sys
from eastgate.fastpath.core_file import forbid, is_forbidden
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
before = is_forbidden()
forbid()
child = "from eastgate.fastpath.core_file import is_forbidden; print(is_forbidden())"
print(before, is_forbidden(), flush=True)
os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-P", "-c", child])
"""


def test_it_is_forbidden_for_the_process_and_not_for_what_it_starts() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    script = SCRIPT.replace("(resource.RLIM_INFINITY, resource.RLIM_INFINITY)", repr((hard, hard)))
    told = subprocess.check_output([sys.executable, "-P", "-c", script], text=True)
    assert told.split() == ["False", "True", "False"]
