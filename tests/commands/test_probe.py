"""`eastgate probe` at the command line: exit codes, and what it says to people."""

import pytest

from ..insight.test_probe import answering, serving
from ..support.gateway_process import run_command


def test_a_web_server_in_the_place_of_a_gateway() -> None:
    with serving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as (host, port):
        run = run_command("probe", f"{host}:{port}", "--service", "echo.test:80")
    assert (run.returncode, run.stdout.splitlines()) == (
        1,
        [
            f"{host}:{port} as outbound_.80_._.echo.test.svc.cluster.local",
            "http: it speaks HTTP and answers the hello with 'HTTP/1.1 400 Bad Request'",
            "  what stands before the gateway has to pass TLS through: a balancer of layer 4 (TCP), not of layer 7",
        ],
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["x", "--service", "a.b:1"], "HOST:PORT: 'x': expected HOST:PORT, such as 192.0.2.2:15443"),
        ([f"x:{'1' * 5000}", "--service", "a.b:1"], "expected HOST:PORT, such as 192.0.2.2:15443"),
        (["127.0.0.1:1"], "--service or --all"),
        (["127.0.0.1:1", "--service", "a.b:1", "--all"], "--service or --all"),
        (["127.0.0.1:1", "--service", "a"], "--service 'a': expected NAME.NAMESPACE:PORT"),
        (["127.0.0.1:1", "--service", "a.b:1", "--cert", "/nowhere.pem"], "--cert /nowhere.pem: No such file"),
    ],
)
def test_bad_usage_is_one_line(words: list[str], reason: str) -> None:
    run = run_command("probe", *words)
    assert run.returncode == 2, run.stdout
    (line,) = run.stderr.splitlines()
    assert reason in line
