"""What no test leaves behind for the next one of its process."""

from collections.abc import Iterator

import pytest

from .support.logs import logging_kept


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    with logging_kept():
        yield
