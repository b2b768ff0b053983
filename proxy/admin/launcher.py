"""Starts the process that renders dumps, for a proxy that must not start any (ADR 9). Holds no connection.

Run as ``python -I -S launcher.py DESCRIPTOR COMMAND...`` before the proxy has opened a socket. Imports nothing of ours
and little else: it lives as long as the proxy. DESCRIPTOR is a SOCK_SEQPACKET socket. A message that carries a
descriptor asks for COMMAND with that as its stdin and stdout; any message, and the end, end what was started before.
"""

import os
import signal
import sys

# What the socket module adds to it costs a megabyte.
from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket

DESCRIPTOR_BYTES = 4


def started(command: list[str], descriptor: int) -> int:
    """Process ID of the command; 0 when it cannot be started, which whoever holds the other end sees at once."""
    actions = [(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, descriptor, 1)]
    try:
        return os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    except OSError:
        return 0


def end(child: int) -> None:
    """End what was started, and take its exit status."""
    if child:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def main() -> None:
    """Do what is asked until the proxy is gone."""
    control = socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    command = sys.argv[2:]
    child = 0
    while True:
        message, passed, _, _ = control.recvmsg(1, CMSG_LEN(DESCRIPTOR_BYTES), MSG_CMSG_CLOEXEC)
        # It has not been waited for, so its number is nobody else's.
        end(child)
        child = 0
        if not message:
            return
        for level, kind, content in passed:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                descriptor = int.from_bytes(content[:DESCRIPTOR_BYTES], sys.byteorder)
                child = started(command, descriptor)
                os.close(descriptor)


if __name__ == "__main__":
    main()
