"""What istioctl gathers and shows beside its views, of an eastgate sidecar and of a stock one: docs/istioctl.md.

`dashboard envoy` leads a browser to the admin; `bug-report` keeps pages of it; `analyze` reads both pods.
"""

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.settings import PROXIES, ROOT
from lab.shell import program, run

from .pairs import NAMESPACE, PROXY, Pairs

DOCUMENT = (ROOT / "docs" / "istioctl.md").read_text()
# Pages of Envoy's that answer GET, and the fields that both have.
JSON_PAGES = {
    "/certs": {"certificates"},
    "/clusters?format=json": {"cluster_statuses"},
    "/config_dump": {"configs"},
    "/config_dump?include_eds": {"configs"},
    "/init_dump": set(),
    "/listeners?format=json": {"listener_statuses"},
    "/memory": {"allocated", "heap_size", "pageheap_free", "pageheap_unmapped", "total_physical_bytes",
                "total_thread_cache"},
    "/runtime": {"entries", "layers"},
    "/server_info": {"command_line_options", "hot_restart_initializing", "hot_restart_version", "node", "state",
                     "uptime_all_epochs", "uptime_current_epoch", "version"},
    "/stats?format=json": {"stats"},
}  # fmt: skip
TEXT_PAGES = ("/", "/help", "/clusters", "/hot_restart_version", "/listeners", "/ready", "/stats", "/stats/prometheus")
# What eastgate's answers have beside Envoy's, and pages that it answers with a sentence and 501.
MORE = {"/server_info": {"eastgate"}}
WITHOUT = ("/contention", "/heap_dump", "/peak_heap_dump", "/memory/tcmalloc", "/stats/recentlookups")


def in_node(pairs: Pairs, *words: Any) -> list[str]:
    """Words that run a program of the lab in the node's network, with kubectl as its user has it."""
    node, binaries = pairs.kubectl.node, pairs.settings.binaries
    environment = (f"KUBECONFIG={pairs.kubectl.config}", f"PATH={binaries}:/usr/sbin:/usr/bin:/sbin:/bin")
    return ["nsenter", "-t", str(node.pid), "--net", "env", *environment, *map(str, words)]


def istioctl(pairs: Pairs) -> str:
    return program("istioctl", pairs.settings.binaries)


@contextmanager
def dashboard(pairs: Pairs, proxy: str) -> Iterator[str]:
    """The URL that `istioctl dashboard envoy` opens, while it does."""
    (pod,) = pairs.pods(f"client-{proxy}")
    name = f"{pod['metadata']['name']}.{NAMESPACE}"
    command = in_node(pairs, istioctl(pairs), "dashboard", "envoy", name, "--browser=false", "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = ""
            while not (found := re.search(r"http://\S+", said)) and (line := process.stdout.readline()):
                said += line
            assert found, said
            yield found.group()
        finally:
            process.terminate()


def page(pairs: Pairs, url: str) -> tuple[int, str]:
    done = run(*in_node(pairs, "curl", "-s", "-S", "-g", "-w", "\n%{http_code}", url)).stdout
    body, _, status = done.rpartition("\n")
    return int(status), body


def test_urls_of_the_dashboard_answer_with_the_same_fields(pairs: Pairs) -> None:
    seen: dict[str, dict[str, set[str]]] = {}
    for proxy in PROXIES:
        with dashboard(pairs, proxy) as url:
            for path, fields in JSON_PAGES.items():
                status, body = page(pairs, url + path)
                assert status == 200, (proxy, path, body[:300])
                found = set(json.loads(body))
                assert found - (MORE.get(path, set()) if proxy == "eastgate" else set()) == fields, (proxy, path)
            for path in TEXT_PAGES:
                status, body = page(pairs, url + path)
                assert (status, bool(body.strip())) == (200, True), (proxy, path)
            kinds = json.loads(page(pairs, url + "/config_dump?include_eds")[1])["configs"]
            seen[proxy] = {one["@type"].rpartition(".")[2]: set(one) for one in kinds}
            if proxy == "eastgate":
                for path in WITHOUT:
                    status, body = page(pairs, url + path)
                    assert (status, body.count("\n") <= 1, bool(body.strip())) == (501, True, True), (path, body)
    assert seen["eastgate"].keys() == seen["stock"].keys()


def test_every_page_of_envoy_is_there_or_says_why_not(pairs: Pairs) -> None:
    pages = re.findall(r"^  (/\S*?):? ", pairs.admin("client-stock", "/help"), re.MULTILINE)
    assert len(pages) > 25
    with dashboard(pairs, "eastgate") as url:
        # Those that change something are not asked with GET: 405.
        answers = {path: page(pairs, url + path)[0] for path in pages}
    assert {path: status for path, status in answers.items() if status not in (200, 405, 501)} == {}


@pytest.mark.parametrize("path", [*MORE, *WITHOUT])
def test_every_difference_stands_in_the_document(path: str) -> None:
    assert f"`{path}`" in DOCUMENT


def test_bug_report_keeps_the_same_files_of_both(pairs: Pairs, tmp_path: Path) -> None:
    run(*in_node(pairs, istioctl(pairs), "bug-report", "--include", NAMESPACE, "--timeout", "100s"), cwd=tmp_path)
    files: dict[str, set[str]] = {}
    with tarfile.open(tmp_path / "bug-report.tar.gz") as archive:
        for member in archive.getmembers():
            for proxy in PROXIES:
                (pod,) = pairs.pods(f"client-{proxy}")
                begin = f"bug-report/proxies/{NAMESPACE}/{pod['metadata']['name']}/"
                if member.name.startswith(begin):
                    files.setdefault(proxy, set()).add(member.name.removeprefix(begin))
                    # An empty page would be a failed question.
                    assert member.size > 0 or not member.isfile() or member.name.endswith(".log"), member.name
    assert files["eastgate"] == files["stock"]
    assert {f"{PROXY}.log", "certs", "clusters", "config_dump?include_eds", "server_info"} <= files["eastgate"]


def test_analyze_has_nothing_to_say_of_either(pairs: Pairs) -> None:
    done = run(*in_node(pairs, istioctl(pairs), "analyze", "-n", NAMESPACE))
    assert "No validation issues found" in done.stdout + done.stderr
