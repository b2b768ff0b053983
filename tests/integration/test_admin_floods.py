"""Clients of admin, status and metrics ports who ask and do not read, connect and say nothing, or ask nastily."""

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.hostile_clients import asked, nasty_requests
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

CLUSTERS = 3000
NOBODY = ("127.0.0.1", 9)
# What the metrics of so many clusters may take while nobody reads them: two texts, what one of them is made of, and
# what the allocator keeps of it. It was 700 MB.
GROWTH_KB = 120_000

# Of thousands of refused requests: what the allocator may keep of their connections.
KEPT_KB = 4000

# For an answer, on a machine that is busy with other tests.
PATIENCE_S = 60

Address = tuple[str, int]


class Gateway(Eastgate):
    """With ports for probes and metrics."""

    def __init__(self, discovery: str) -> None:
        super().__init__(discovery, "--status", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--workers", "1")

    def port(self, flag: str) -> Address:
        def line() -> str:
            return next((one for one in list(self.lines) if f" serving flag={flag} " in one), "")

        until(line, f"{flag} is served")
        fields = dict(word.split("=", 1) for word in line().split() if "=" in word)
        return fields["address"], int(fields["port"])


@pytest.fixture(scope="module")
def istiod() -> Iterator[ReplayThread]:
    """As many clusters as a large mesh has."""
    names = [messages.sni(f"service-{number}") for number in range(CLUSTERS)]
    resources = messages.resources({name: [messages.At(NOBODY)] for name in names})
    with closing(ReplayThread(resources)) as server:
        yield server


@pytest.fixture(scope="module")
def large(istiod: ReplayThread) -> Iterator[Gateway]:
    with Gateway(istiod.address) as gateway:
        gateway.wait_ready()
        yield gateway


@pytest.fixture
def fresh(istiod: ReplayThread) -> Iterator[Gateway]:
    """Nobody asked it anything: the allocator gives texts of counters back for seconds after their readers left."""
    with Gateway(istiod.address) as gateway:
        gateway.wait_ready()
        yield gateway


def get(address: Address, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen("http://{}:{}{}".format(*address, path), timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def admin_of(gateway: Gateway) -> Address:
    host, _, port = gateway.admin.removeprefix("http://").partition(":")
    return host, int(port)


@pytest.mark.parametrize("where", ["metrics", "admin"])
def test_unread_counters_take_bounded_memory_and_others_get_theirs(large: Gateway, where: str) -> None:
    # The sibling: on admin each asks for something else.
    address = large.port("--metrics") if where == "metrics" else admin_of(large)
    paths = ["/stats/prometheus"] * 24 if where == "metrics" else [f"/stats?filter=c.{{{n}}}" for n in range(24)]
    assert len(get(address, "/stats/prometheus")[1]) > 5_000_000
    before_kb = large.resident_kb()
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(asked(address, path))
        status, text = get(address, "/stats/prometheus") if where == "metrics" else get(address, "/server_info")
        assert (status, b"eastgate" in text) == (200, True)
        assert large.resident_kb(peak=True) - before_kb < GROWTH_KB


@pytest.mark.parametrize(("where", "count"), [("--admin", 10_000), ("--metrics", 2000), ("--status", 2000)])
def test_nasty_requests_leave_memory_as_it_was(fresh: Gateway, where: str, count: int) -> None:
    address = admin_of(fresh) if where == "--admin" else fresh.port(where)

    def answered(number: int) -> None:
        with nasty_requests(address) as flood:
            until(lambda: flood.done >= number, f"{number} requests are answered", deadline_s=3 * PATIENCE_S)

    # What the first of each kind makes is made once.
    answered(500)
    before_kb = fresh.resident_kb()
    answered(count)
    assert fresh.resident_kb() - before_kb < KEPT_KB
    assert get(admin_of(fresh), "/ready") == (200, b"LIVE\n")


def test_dump_that_nobody_reads_holds_up_no_other(large: Gateway) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(asked(admin_of(large), "/config_dump?include_eds"))
        status, text = get(admin_of(large), "/config_dump")
        assert (status, len(json.loads(text)["configs"][1]["dynamic_active_clusters"])) == (200, CLUSTERS)


def offspring(pid: int) -> Iterator[int]:
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(word)
        yield from offspring(int(word))


def sockets_of(pid: int) -> set[str]:
    links = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            links.add(os.readlink(one))
    return {link for link in links if link.startswith(("socket:", "anon_inode:"))}


def test_no_process_beside_holds_a_socket_of_the_proxys(large: Gateway) -> None:
    """A copy of a connection's descriptor, held for a moment, keeps it in epoll when it is closed."""
    with socket.create_connection(admin_of(large), 10), socket.create_connection(large.port("--status"), 10):
        assert get(admin_of(large), "/config_dump")[0] == 200
        launcher, child = offspring(large.pid)
        mine = sockets_of(large.pid)
        assert len(mine) > 8
        for pid in (launcher, child):
            # Its own end of a pair is in neither.
            assert sockets_of(pid).isdisjoint(mine)


def test_killed_renderer_is_one_500_and_the_next_dump_is_whole(large: Gateway) -> None:
    admin, path = admin_of(large), "/config_dump?resource=dynamic_active_clusters"
    good = get(admin, path)
    *_, child = offspring(large.pid)
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, admin, path)
        assert get(admin, "/ready")[0] == 200
        os.kill(child, signal.SIGKILL)
        status, text = answer.result()
    # Killed before it was asked, it has been replaced by then.
    assert (status, text) in (
        (500, b"config_dump: the process that renders it was killed (out of memory?); ask again\n"),
        good,
    )
    assert get(admin, path) == good


def test_expression_that_goes_back_without_end_holds_up_nobody(large: Gateway) -> None:
    with ThreadPoolExecutor(1) as pool:
        admin = admin_of(large)
        answer = pool.submit(get, admin, "/stats?filter=(.*.*.*.*.*.*.*.*)*!")
        assert get(admin, "/ready")[0] == 200
        assert answer.result() == (200, b"")
    # The sibling: names of resources.
    assert b'"configs"' in get(admin, "/config_dump?resource=dynamic_active_clusters&name_regex=(.*.*.*.*.*)*!")[1]


@pytest.mark.parametrize("path", ["/stats?filter=", "/stats/prometheus?filter=", "/config_dump?name_regex="])
@pytest.mark.parametrize("pattern", ["(", "(?=a)", "%0a["])
def test_bad_expression_is_400_with_one_line(large: Gateway, path: str, pattern: str) -> None:
    status, text = large.get(path + pattern)
    assert status == 400
    assert text.startswith("Invalid re2 regex")
    assert text.count("\n") == 1


def test_probes_go_on_beside_silent_connections(large: Gateway) -> None:
    address = large.port("--status")
    with ExitStack() as stack:
        for _ in range(3):
            for _ in range(256):
                stack.enter_context(socket.create_connection(address, 10))
            assert get(address, "/ready") == (200, b"LIVE\n")
            # The sibling: those that have begun a request.
            for _ in range(256):
                stack.enter_context(socket.create_connection(address, 10)).sendall(b"GET / HTTP/1.1\r\nA: ")
            assert get(address, "/ready") == (200, b"LIVE\n")


def test_ports_serve_their_own_pages_alone(large: Gateway) -> None:
    status, metrics = large.port("--status"), large.port("--metrics")
    assert get(status, "/healthz/ready")[0] == 200
    assert get(metrics, "/stats/prometheus")[0] == 200
    for address, path in (
        (status, "/stats/prometheus"),
        (status, "/config_dump"),
        (metrics, "/ready"),
        (metrics, "/stats"),
        (metrics, "/quitquitquit"),
    ):
        assert get(address, path) == (404, b"not found\n")


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("none", 200)])
def test_what_a_browser_loads_for_another_site_is_refused(large: Gateway, site: str, status: int) -> None:
    assert large.get("/ready", headers={"Sec-Fetch-Site": site})[0] == status
