"""Where a process begins: until its command listens to signals, one ends it without a word, and also as process 1.

An interpreter answers Ctrl-C among its imports with a traceback. And the kernel drops SIGTERM for the first process of
a container that has no handler of its own: who stopped a pod just after its start would wait for its grace period.
"""

import os
import signal


def end(number: int, _: object = None) -> None:
    """What the shell says of a process that a signal ended. Nothing is open yet that would have to be closed."""
    os._exit(128 + number)


def begin() -> None:
    """Let signals end this process. Who is to ignore SIGINT goes on to do so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, end)


def listen() -> None:
    """From here on commands say themselves what Ctrl-C means to them."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Entry point of `eastgate`."""
    begin()
    from .cli import main as run

    listen()
    run()


def envoy() -> None:
    """Entry point of `eastgate-envoy`."""
    begin()
    from .envoy import main as run

    listen()
    run()
