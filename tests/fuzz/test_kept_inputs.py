"""What guided fuzzing kept, without a fuzzer: each input keeps its promise, natively under sanitizers and in Python."""

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
from eastgate.fastpath.match import client_hello, proxy_protocol

from ..fastpath.match.hellos import handshake, hello_body, in_records, server_name_extension
from . import inputs, native_targets, python_targets
from .prefixes import check_prefixes
from .test_client_hello_properties import LIMIT, agrees

COMPILER = os.environ.get("CC", "cc")
# A preloaded sanitizer is for this process, not for the compiler nor for what has its own linked in.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "ASAN_OPTIONS")}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.mark.parametrize("target", native_targets.TARGETS)
def test_native_target(target: str, programs: Path, tmp_path: Path) -> None:
    found = inputs.kept(target) | {f"seed-{number}": one for number, one in enumerate(inputs.seeds(target))}
    assert found
    paths = []
    for number, data in enumerate(found.values()):
        paths.append(str(tmp_path / f"{number}"))
        Path(paths[-1]).write_bytes(data)
    program = programs / target
    flags = ("-O1", f"-fsanitize={native_targets.SANITIZERS}")
    native_targets.build(target, program, COMPILER, flags, [native_targets.HERE / "each_file.c"])
    done = subprocess.run([program, *paths], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{len(paths)} inputs\n"


@pytest.mark.parametrize("target", python_targets.TARGETS)
def test_python_target(target: str) -> None:
    found = inputs.kept(target) | {f"seed-{number}": one for number, one in enumerate(inputs.seeds(target))}
    assert found
    for data in found.values():
        python_targets.TARGETS[target](data)


def test_kept_hellos_are_read_as_the_reference_reads_them() -> None:
    for data in inputs.kept("client_hello").values():
        lengths = range(0, len(data), 1 + len(data) // 50)
        assert agrees(check_prefixes(client_hello.parse, data, limit=LIMIT, lengths=lengths), data)


def test_kept_proxy_headers_have_one_answer() -> None:
    for data in inputs.kept("proxy_protocol").values():
        for versions in ((1,), (2,), (1, 2)):
            for optional in (False, True):
                parse = partial(proxy_protocol.parse, versions=versions, optional=optional)
                check_prefixes(parse, data, limit=65551, lengths=range(0, len(data), 1 + len(data) // 50))


def test_a_broken_promise_is_seen(programs: Path, tmp_path: Path) -> None:
    """A parser that takes longer names than there is room for is caught by what it is built with."""
    text = native_targets.generated("client_hello").read_text()
    broken = tmp_path / "client_hello.c"
    broken.write_text(text.replace("SERVER_NAME_LIMIT = 0xFD", "SERVER_NAME_LIMIT = 0xFFFF"))
    assert broken.read_text() != text
    flags = ("-O1", f"-fsanitize={native_targets.SANITIZERS}")
    program = programs / "broken"
    native_targets.build(
        "client_hello", program, COMPILER, flags, [native_targets.HERE / "each_file.c"], generated_from=broken
    )
    hello = tmp_path / "hello"
    hello.write_bytes(in_records(handshake(hello_body(server_name_extension(b"a" * 400)))))
    done = subprocess.run([program, hello], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "runtime error" in done.stderr or "AddressSanitizer" in done.stderr, done.stderr
