"""The page for people, in a real Chromium, served by a running gateway."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from playwright.sync_api import Browser, Page, Route, expect

from ..support import messages
from ..support.browser import Looked, chromium
from ..support.gateway_process import Eastgate, run_command
from ..support.hellos import client_hello
from ..support.outlier_mesh import OutlierMesh
from ..support.recordings import EDS
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

NAME = messages.sni("echo")
# What a stranger may call a cluster, and a client a server.
HOSTILE = "outbound_.80_._.<img src=x onerror=alert(1)>\"'&amp;</script><script>alert(2)</script>"
# Without a place at which a line may end.
LONG = messages.sni("x" * 60 + "." + "y" * 60)
MANY = messages.sni("many")
COUNT_MADE = """() => {
    const real = document.createElementNS.bind(document);
    const one = document.createElement.bind(document);
    window.made = 0;
    document.createElementNS = (...those) => { window.made += 1; return real(...those); };
    document.createElement = (...those) => { window.made += 1; return one(...those); }; }"""
WIDER = "those => those.filter((one) => one.scrollWidth > one.clientWidth).length"
DOWN = HealthStatus.UNHEALTHY
# 2 of 3 healthy at P0 and one at P1: 93 % and 7 %.
LOCAL = [
    messages.At(("127.0.0.1", 1 + n), weight=1 + n, health=DOWN if n == 0 else HealthStatus.HEALTHY) for n in range(3)
]
REMOTE = [messages.At(("127.0.0.1", 9), priority=1, weight=5)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def gateway() -> Iterator[Eastgate]:
    clusters = {NAME: [*LOCAL, *REMOTE], HOSTILE: [messages.At(("127.0.0.1", 7))]}
    clusters |= {LONG: [messages.At(("127.0.0.1", 7))]}
    clusters |= {MANY: [messages.At(("127.0.0.1", 1000 + n), priority=n % 2) for n in range(250)]}
    clusters |= {messages.sni(f"s{n}"): [messages.At(("127.0.0.1", 8))] for n in range(40)}
    # A listener of its own: no server name may be like that, and a plain chain may lead to it all the same.
    chains = [messages.chain(name) for name in clusters if name != HOSTILE]
    listeners = [messages.listener(chains), messages.listener([messages.plain_chain(HOSTILE)], name="plain")]
    server = ReplayThread(messages.resources(clusters, listeners=listeners))
    with Eastgate(server.address) as running:
        running.wait_ready()
        yield running
    server.close()


@pytest.fixture
def looked(browser: Browser, gateway: Eastgate) -> Iterator[Looked]:
    """A page of its own, that complains of nothing and asks nobody else."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(10_000)
        found = Looked(context.new_page())
        yield found
        assert found.complaints == []
        assert {url for url in found.asked if not url.startswith(gateway.admin + "/")} == set()


def opened(looked: Looked, gateway: Eastgate, fragment: str = "") -> Page:
    looked.page.goto("about:blank")
    looked.page.goto(f"{gateway.admin}/{fragment}")
    looked.page.wait_for_selector("main[data-ready]")
    return looked.page


def asking(name: str, *down: str) -> str:
    return "#view=traffic&cluster=" + quote(name, safe="") + "".join(f"&down={quote(one, safe='')}" for one in down)


def test_browsers_get_the_page_and_curl_gets_text(gateway: Eastgate) -> None:
    assert gateway.get("/")[1].startswith("eastgate admin commands:\n")
    assert gateway.get("/", headers={"Accept": "text/html,*/*"})[1].startswith("<!doctype html>")
    assert gateway.get("/ui/../page.py")[0] == 404
    assert gateway.get("/ui/cluster?name=nothing") == (404, "no cluster 'nothing'\n")
    status, text = gateway.get(f"/ui/cluster?name={NAME}&what_if=zone=nowhere")
    assert (status, text.count("\n")) == (400, 1)


def test_page_says_what_explain_says(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway, asking(NAME))
    expect(page.locator("#headline")).to_have_text("93 % go to P0 (r1/z0), 7 % go to P1 (r1/z1).")
    expect(page.get_by_text("2 of 3 healthy: 140 % x 2 / 3 = 93 % available")).to_be_visible()
    shares = page.get_by_role("region", name="Endpoints").locator("tbody tr td:nth-child(6)").all_inner_texts()
    # 93 % by weights 2 and 3 of 5.
    assert [text.split("\n")[0] for text in shares] == ["0 %", "37.2 %", "55.8 %", "7 %"]
    expect(page.locator("#server")).to_contain_text("live")


def test_cluster_that_needs_somebody_is_shown_first(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway)
    expect(page.get_by_role("heading", level=1)).to_have_text("echo.test")
    expect(page.locator(".tile").nth(3)).to_contain_text("1")


def test_what_if_is_asked_by_keyboard_and_stands_in_the_url(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway, asking(NAME))
    button = page.get_by_role("button", name="zone r1/z0")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#headline")).to_have_text("What if: 100 % go to P1 (r1/z1).")
    # Whoever presses it has the focus still, and can press again.
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-pressed", "true")
    sent = page.url.partition("/#")[2]
    page = opened(looked, gateway, "#" + sent)
    expect(page.locator("#headline")).to_have_text("What if: 100 % go to P1 (r1/z1).")
    page.get_by_role("link", name="everything up again").click()
    expect(page.locator("#headline")).to_have_text("93 % go to P0 (r1/z0), 7 % go to P1 (r1/z1).")
    # Nothing was touched.
    said = run_command("explain", NAME, "--admin", gateway.admin).stdout
    assert "93 %" in said


@pytest.mark.parametrize(("link", "place"), [("Skip to content", "main"), ("Skip the list", "detail")])
def test_skipping_moves_the_focus_and_keeps_the_question(
    looked: Looked, gateway: Eastgate, link: str, place: str
) -> None:
    page = opened(looked, gateway, asking(NAME, "zone=r1/z0"))
    sent = page.url
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == link:
            break
    skipping = page.get_by_role("link", name=link)
    expect(skipping).to_be_focused()
    expect(skipping).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator(f"#{place}")).to_be_focused()
    assert page.url == sent
    if place == "detail":
        # The first thing to press behind the list.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#detail') !== null")


def test_hostile_names_are_text(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway, asking(HOSTILE))
    expect(page.locator("p.mono.soft", has_text=HOSTILE)).to_be_visible()
    opened(looked, gateway, asking("<img src=x onerror=alert(3)>"))
    # The name that is not there is said back: looked for by the page itself, and refused with a status.
    expect(page.get_by_role("alert")).to_contain_text("no cluster '<img src=x")
    assert any("404" in text for text in looked.complaints)
    looked.complaints.clear()
    assert page.locator("main img, main script").count() == 0


def test_policy_keeps_out_what_is_not_ours(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway)
    run = """() => { try { const one = document.createElement('script');
        one.textContent = 'window.ran = 1'; document.body.append(one) } catch { } return window.ran ?? 0 }"""
    assert page.evaluate(run) == 0
    assert looked.complaints != []
    looked.complaints.clear()


def test_refusals_show_the_nearest_name(looked: Looked, gateway: Eastgate) -> None:
    with socket.create_connection(gateway.bound_address(messages.LISTENER), 10) as peer:
        peer.sendall(client_hello(NAME.replace("echo", "ecko")))
        peer.settimeout(10)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    until(lambda: gateway.json("/refusals")["refusals"], "the refusal is shown")
    page = opened(looked, gateway, "#view=refusals")
    row = page.get_by_role("row").filter(has_text="ecko")
    expect(row).to_contain_text("unknown_server_name")
    expect(row).to_contain_text(NAME)
    # All of it is seen on a desk, long names too.
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.locator(".scroll").evaluate_all(WIDER) == 0


OUTSIDE = """texts => texts.filter(text => {
    const box = text.getBoundingClientRect(), picture = text.ownerSVGElement.getBoundingClientRect();
    return box.right > picture.right + 1 || box.left < picture.left - 1;
}).map(text => text.textContent)"""


@pytest.mark.parametrize("width", [360, 1280])
def test_what_is_written_in_the_picture_is_inside_it(looked: Looked, gateway: Eastgate, width: int) -> None:
    looked.page.set_viewport_size({"width": width, "height": 800})
    page = opened(looked, gateway, asking(NAME))
    written = page.locator(".flow text")
    assert written.filter(has_text="3 endpoints").count() == 1
    assert written.evaluate_all(OUTSIDE) == []


@pytest.mark.parametrize("view", ["compare", "events", "resources", "certs", "doctor"])
def test_every_view_opens(looked: Looked, gateway: Eastgate, view: str) -> None:
    page = opened(looked, gateway, f"#view={view}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.get_by_role("alert").count() == 0
    if view == "doctor":
        expect(page.get_by_role("heading", name=re.compile("no-outlier-detection")).first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    looked: Looked, gateway: Eastgate, scheme: Any, width: int
) -> None:
    looked.page.emulate_media(color_scheme=scheme)
    looked.page.set_viewport_size({"width": width, "height": 800})
    for fragment in (asking(NAME, "zone=r1/z0"), "#view=resources", "#view=compare", "#view=doctor"):
        page = opened(looked, gateway, fragment)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # What scrolls by itself may be wider inside: a name in the list of clusters may not.
        assert page.locator("#clusters a").evaluate_all(WIDER) == 0
        with page.context.browser.new_context(bypass_csp=True, color_scheme=scheme) as context:  # type: ignore[union-attr]
            # axe has to be put into the page, which its policy rightly forbids.
            again = context.new_page()
            again.set_viewport_size({"width": width, "height": 800})
            again.goto(f"{gateway.admin}/{fragment}")
            again.wait_for_selector("main[data-ready]")
            found = Axe().run(again).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == []


def test_two_moments_are_compared(looked: Looked) -> None:
    here, there = messages.At(("127.0.0.1", 1)), messages.At(("127.0.0.1", 2))
    resources = messages.resources({NAME: [here], HOSTILE: [here]}, listeners=[])
    with closing(ReplayThread(resources)) as server, Eastgate(server.address) as running:
        running.wait_ready()
        page = opened(looked, running, "#view=compare")
        expect(page.get_by_text("Nothing has changed")).to_be_visible()
        for endpoints in ([here, there], [there]):
            # What lasts for a second is a moment.
            time.sleep(1.1)
            server.push_some(EDS, {NAME: messages.assignment(NAME, endpoints)})
        assert len(running.json("/ui/moments")["moments"]) == 2
        page = opened(looked, running, "#view=compare")
        expect(page.get_by_text("50.0 points of its connections move")).to_be_visible()
        page.get_by_label("From").select_option(index=0)
        # All of the first went to the second.
        expect(page.get_by_role("heading", name="echo.test 100 % moved")).to_be_visible()
        assert "before=1&after=now" in page.url
        row = page.get_by_role("row").filter(has_text="127.0.0.1:1")
        expect(row).to_contain_text("gone")
        assert running.get("/ui/compare?before=7")[0] == 404
        assert running.get("/ui/compare?before=x")[0] == 400
        looked.asked.clear()
        looked.page.goto("about:blank")


def test_page_shows_where_connections_went_so_far(looked: Looked) -> None:
    mesh = OutlierMesh({"web": None}, 2, ("--workers", "1"))
    try:
        (running,) = mesh.proxies
        assert sorted(mesh.connects(running, "web", 4).elements()) == [0, 0, 1, 1]
        assert isinstance(running, Eastgate)
        page = opened(looked, running, asking(mesh.names["web"]))
        (row,) = page.get_by_role("region", name="Connections so far").locator("tbody tr").all()
        cells = row.locator("td").all_inner_texts()
        assert cells[:6] == ["P0", "r1/z0", "4", "100 %", "0", "0"]
        # One byte from each endpoint.
        assert cells[6] == "4 B"
        looked.asked.clear()
    finally:
        mesh.close()


def test_list_of_clusters_is_searched(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway)
    page.get_by_role("searchbox", name="Find a cluster").fill("s3")
    # s3 and s30 to s39.
    expect(page.locator("#clusters li")).to_have_count(11)


def test_who_waits_for_a_slow_answer_gets_it(looked: Looked, gateway: Eastgate) -> None:
    """It may take longer than the time after which the page asks again by itself."""
    held: list[Route] = []
    page = opened(looked, gateway, asking(NAME))
    page.clock.install()
    page.reload()
    page.wait_for_selector("main[data-ready]")
    page.route("**/ui/cluster?*", lambda route: held.append(route))
    page.get_by_role("button", name="zone r1/z0").click()
    page.wait_for_selector("main[aria-busy=true]")
    for _ in range(4):
        page.clock.run_for(5000)
    assert len(held) == 1
    held[0].continue_()
    expect(page.locator("#headline")).to_have_text("What if: 100 % go to P1 (r1/z1).")
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")


def test_what_is_the_same_is_not_made_anew(looked: Looked, gateway: Eastgate) -> None:
    page = opened(looked, gateway, asking(NAME))
    page.clock.install()
    page.reload()
    page.wait_for_selector("main[data-ready]")
    page.evaluate(COUNT_MADE)
    with page.expect_response("**/server_info"):
        page.clock.run_for(5000)
    page.wait_for_function("document.querySelector('#server').innerText.startsWith('live')")
    # The state of the proxy, and nothing else.
    assert page.evaluate("window.made") == 1
    page.get_by_role("button", name="zone r1/z0").click()
    expect(page.locator("#headline")).to_have_text("What if: 100 % go to P1 (r1/z1).")
    assert page.evaluate("window.made") > 100


def test_of_many_endpoints_the_first_are_listed_and_all_are_counted(looked: Looked, gateway: Eastgate) -> None:
    with looked.page.expect_response("**/ui/cluster?*") as asked:
        page = opened(looked, gateway, asking(MANY, "priority=P0"))
    said = asked.value.json()
    assert [len(one["endpoints"]) for one in (said, said["what_if"])] == [100, 100]
    expect(page.locator("#headline")).to_have_text("What if: 100 % go to P1 (r1/z1).")
    expect(page.locator("#endpoints")).to_have_text("250 endpoints")
    expect(page.locator(".flow")).to_contain_text("100 % · 125 endpoints")
    lines = page.get_by_role("region", name="Endpoints").locator("tbody tr")
    expect(lines).to_have_count(100)
    expect(lines.nth(0)).to_contain_text("0 % (was 0.8 %)")
    page.get_by_role("button", name="show more of 250").click()
    expect(lines).to_have_count(250)
    expect(page.get_by_role("button", name="show more")).to_have_count(0)
    assert gateway.get(f"/ui/cluster?name={quote(MANY, safe='')}&rows=-1") == (400, "rows=-1 is no number\n")


def test_who_asks_again_sees_what_was_pushed_meanwhile() -> None:
    def weights(running: Eastgate) -> list[int]:
        return [one["weight"] for one in running.json(f"/ui/cluster?name={quote(NAME, safe='')}")["endpoints"]]

    def at(weight: int) -> list[messages.At]:
        return [messages.At(("127.0.0.1", 1), weight=weight)]

    resources = messages.resources({NAME: at(1)}, listeners=[])
    with closing(ReplayThread(resources)) as server, Eastgate(server.address) as running:
        running.wait_ready()
        assert weights(running) == weights(running) == [1]
        server.push_some(EDS, {NAME: messages.assignment(NAME, at(7))})
        until(lambda: weights(running) == [7], "the new weight is shown")
