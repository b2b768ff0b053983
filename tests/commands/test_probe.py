"""`eastgate probe` at the command line: exit codes, and what it says to people."""

import socket
from pathlib import Path

import pytest

from ..insight.test_probe import answering, serving
from ..support import fake_kubectl
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
    ("service", "hint"),
    [
        ("echo:80", "  echo was taken for a host: a service is NAME.NAMESPACE:PORT, such as echo.default:80"),
        (
            "outbound|80|v1|echo",
            "  echo was taken for a host: a service is NAME.NAMESPACE:PORT, such as echo.default:80",
        ),
        ("echo.test:80", ""),
        ("echo.example.com:80", ""),
    ],
)
def test_a_service_without_its_namespace_is_told(service: str, hint: str) -> None:
    with serving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as (host, port):
        run = run_command("probe", f"{host}:{port}", "--service", service)
    assert run.stdout.splitlines()[3:] == ([hint] if hint else [])


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


def from_pod(
    folder: Path, *words: str, programs: tuple[str, ...] = ("python3",), **more: object
) -> tuple[int, str, str]:
    pods = {"pods": [fake_kubectl.pod("web-1", namespace="shop")], "programs": programs, **more}
    run = run_command("probe", *words, "--from", "web-1.shop", **fake_kubectl.install(folder, {"one": pods}))
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("program", ["python3", "bash"])
def test_probe_begins_in_a_pod(tmp_path: Path, program: str) -> None:
    with serving(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as (host, port):
        code, said, _ = from_pod(tmp_path, f"{host}:{port}", "--service", "echo.test:80", programs=(program,))
    assert (code, said.splitlines()[1]) == (
        1,
        "http: it speaks HTTP and answers the hello with 'HTTP/1.1 400 Bad Request'",
    )
    # By the user's own kubectl, in the proxy's container.
    assert f"exec -i web-1 --namespace shop -c istio-proxy -- {program} -c " in (tmp_path / "kubectl.log").read_text()


@pytest.mark.parametrize("program", ["python3", "bash"])
def test_pod_that_cannot_connect_says_why(tmp_path: Path, program: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        code, said, _ = from_pod(tmp_path, address, "--service", "echo.test:80", programs=(program,))
    assert code == 1
    assert "unreachable: cannot connect: " in said
    assert "Connection refused" in said


def test_pod_without_a_program_that_connects_is_named(tmp_path: Path) -> None:
    code, _, said = from_pod(tmp_path, "127.0.0.1:1", "--service", "a.b:1", programs=())
    assert (code, said.count("\n")) == (1, 1)
    assert "--from web-1.shop: container istio-proxy has none of python3, bash, nc" in said


def test_pod_where_exec_is_forbidden(tmp_path: Path) -> None:
    code, _, said = from_pod(tmp_path, "127.0.0.1:1", "--service", "a.b:1", forbidden=["exec"])
    assert code == 1
    assert "--from web-1.shop: kubectl: Error from server (Forbidden)" in said
