"""The OpenSSL that is called is the one that is named, and there is one of it."""

import subprocess
import sys

from eastgate.fastpath.tls.library import openssl

# What calls OpenSSL, and nothing else: not Python's own ssl, nor cryptography.
LOAD_ALL = """
from eastgate.fastpath.loop import engine, tls_session, tls_socket
from eastgate.fastpath.tls import context, handshake, library, peer_names
for line in open("/proc/self/maps"):
    path = line.split(maxsplit=5)[-1].strip()
    if "/libssl" in path or "/libcrypto" in path:
        print(path)
"""


def test_every_module_calls_the_library_that_is_named():
    """Two copies would hand each other structures that only one of them knows."""
    run = subprocess.run([sys.executable, "-P", "-c", LOAD_ALL], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    version, path = openssl()
    assert version.startswith("OpenSSL 3.")
    assert len(loaded) == 2
    [ssl] = [each for each in loaded if "/libssl" in each]
    # The file itself, and no way to it: /lib is a link to /usr/lib.
    assert ssl == path
