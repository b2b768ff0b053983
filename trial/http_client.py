"""An ordinary HTTP client: asks, reads the answer, closes. It knows one address, and nothing of a mesh."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from .ends import Traffic

TIMEOUT_S = 10.0
PROGRESS_EACH = 25


def answer(host: str, port: int) -> str:
    """What is answered to one request on a connection of its own. Raises OSError and HTTPException."""
    with closing(HTTPConnection(host, port, TIMEOUT_S)) as connection:
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != HTTPStatus.OK:
            raise HTTPException(f"status {response.status}")
        return text.strip()


def _run(host: str, port: int, count: int, progress: Callable[[int], None]) -> Traffic:
    traffic = Traffic()
    for number in range(1, count + 1):
        try:
            traffic.answers[answer(host, port)] += 1
        except (OSError, HTTPException) as error:
            traffic.errors[type(error).__name__] += 1
        if number % PROGRESS_EACH == 0:
            progress(PROGRESS_EACH)
    progress(count % PROGRESS_EACH)
    return traffic


async def ask(host: str, port: int, count: int, progress: Callable[[int], None]) -> Traffic:
    """So many requests, one after the other: least request then sees equal load, as the shares that are stated do."""
    return await asyncio.to_thread(_run, host, port, count, progress)
