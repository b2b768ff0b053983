"""What is said in the log: an event, which is a constant of the program, and fields, which may hold anything.

How lines look, and where they go, is the process's business: see proxy/log.py. Without it they go where `logging` says.
"""

import logging


class Log:
    """Structured logger of one component. Fields are kept as they are: whoever writes the line quotes them."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"eastgate.{name}")

    def debug(self, event: str, **fields: object) -> None:
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """An error, with the stack of the exception in hand."""
        self._logger.exception(event, extra={"fields": fields})
