"""`mesh serve` before it serves: files that are large, that are no text, and whose workloads have no addresses."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from eastgate.mesh.documents import LARGE_BYTES, read_documents
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import load
from eastgate.mesh.serving import Reading, Stopped, without_address
from eastgate.xds.log import Log

from ..support.gateway_process import EASTGATE, run_command
from ..support.waiting import until

DEMO = Path(__file__).parents[2] / "mesh" / "demo.yaml"
NO_TEXT = [b"kind: Mesh\nname: \xff\xfe\n", b"\x80", b"kind: \x00Mesh\n", b"\xff\xfe\x00", b"kind: [\xc3\n"]


@pytest.mark.parametrize("data", NO_TEXT, ids=repr)
def test_what_is_no_text_is_an_error_with_the_file(data: bytes) -> None:
    with pytest.raises(MeshError, match=r"^x\.yaml: not YAML: ") as caught:
        read_documents(data, "x.yaml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "command", [("mesh", "serve"), ("mesh", "run"), ("compare-envoy",)], ids=lambda one: " ".join(one)
)
def test_each_command_says_it_in_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(NO_TEXT[0])
    run = run_command(*command, str(path))
    (line,) = run.stderr.splitlines()
    assert run.returncode == 2
    assert line.startswith(f"eastgate: {path}: not YAML: ")


def test_workloads_without_an_address_are_named() -> None:
    said = without_address(load(DEMO).mesh)
    assert said.startswith("9 of 9 workloads have no address")
    assert "gke/default/echo-1, gke/default/echo-2, gke/istio-system/gateway-1 and 6 more" in said


def clusters(count: int) -> bytes:
    lines = ["kind: Mesh", "clusters:"]
    lines += [f"  c{number}:\n    network: n{number}\n    region: r" for number in range(count)]
    return "\n".join(lines).encode()


def test_progress_of_a_large_file_is_told_from_begin_to_end() -> None:
    told: list[tuple[int, int]] = []
    data = clusters(40_000)
    assert len(data) > LARGE_BYTES
    read_documents(data, "x.yaml", lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {len(data)}
    assert len({done for done, _ in told}) > 50
    assert told[-1] == (len(data), len(data))


def test_too_many_values_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    """In a process of its own, whose memory nobody else has used."""
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"kind: Mesh\nclusters: [" + b"a, " * 2_100_000 + b"]\n")
    run = subprocess.run(
        ["sh", "-c", 'ulimit -v 1500000; exec "$@"', "sh", EASTGATE, "mesh", "serve", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 2
    assert "too large: more than 1,000,000 values" in run.stderr.splitlines()[-1]


def test_reading_ends_when_nobody_waits_for_it() -> None:
    reading = Reading(Path("x.yaml"), Log("test"))
    reading.stop = True
    with pytest.raises(Stopped):
        read_documents(clusters(10), "x.yaml", reading)


def test_ctrl_c_ends_a_reading(tmp_path: Path) -> None:
    """The file comes from a pipe that is never done."""
    pipe = tmp_path / "slow.yaml"
    os.mkfifo(pipe)
    # Where the tests run in the background of a script it is ignored, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([EASTGATE, "mesh", "serve", str(pipe)], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with open(pipe, "wb"):
        # Opened by both: it reads.
        until(lambda: process.poll() is not None or waits(process.pid), "it waits for more")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "")


def waits(pid: int) -> bool:
    """Whether the process sleeps in the kernel on a pipe."""
    return "pipe" in Path(f"/proc/{pid}/wchan").read_text()
