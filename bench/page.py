"""Whether the page stutters, in a real Chromium: long tasks and the time between frames, with a large mesh.

    python -m bench.page [--clusters 1000] [--endpoints 10000] [--seconds 6] [--only NAME,...]

A gateway of its own is given as many clusters with as many endpoints in all, and one more cluster that has as many
endpoints by itself. In each scene something is done over and over, by script, while Chromium counts: tasks of more than
50 ms (the Long Tasks API, during which nobody is answered), and the time from one frame to the next. Both grow when
others want the CPUs too: the first scene does nothing, and shows the machine. So each task of the page's own thread is
also counted by the CPU time that it took, as Chromium's trace has it. Needs chromium: `make browser`.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page

from tests.support import messages
from tests.support.browser import chromium
from tests.support.gateway_process import Eastgate
from tests.support.replay_ads import ReplayThread

LARGE = messages.sni("large")
LONG_MS = 50
SHOWN = "document.querySelector('main')?.dataset.ready ?? 0"
# Begun in the page, and asked for when the scene is over.
COUNTING = """() => {
  window.seen = { tasks: [], frames: [], on: true };
  const took = (list) => window.seen.tasks.push(...list.getEntries().map((one) => one.duration));
  const watch = new PerformanceObserver(took);
  watch.observe({ type: "longtask" });
  let last = performance.now();
  const frame = (now) => {
    window.seen.frames.push(now - last); last = now;
    if (window.seen.on) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
# One step of a scene every 100 ms, for so many milliseconds.
STEPS = """async ([milliseconds, step]) => {
  const act = new Function("at", step), end = performance.now() + milliseconds;
  for (let at = 0; performance.now() < end; at += 1) { act(at); await new Promise((done) => setTimeout(done, 100)); }
  window.seen.on = false;
  return { tasks: window.seen.tasks, frames: window.seen.frames.slice(1) };
}"""
SCROLL = "const one = document.querySelector('#clusters ul'); one.scrollTop = (at * 400) % one.scrollHeight;"
SEARCH = (
    "const one = document.querySelector('#search'); one.value = 'service-' + at % 10;"
    " one.dispatchEvent(new Event('input', { bubbles: true }));"
)
CLICK = (
    "const all = document.querySelectorAll('#clusters li a'); if (at % 10 === 0) all[(at * 7) % all.length].click();"
)
# Pressed again when the last answer is shown.
ASK = (
    "if (at % 20 === 0 && document.querySelector('main').ariaBusy !== 'true')"
    " document.querySelector('[aria-labelledby=whatif] button')?.click();"
)
WHEEL = "scrollTo(0, (at * 200) % document.documentElement.scrollHeight);"
SCENES = {
    "nothing, on a blank page": ("", "0"),
    "the list, renewed every five seconds": ("#view=traffic", "0"),
    "scrolling the list": ("#view=traffic", SCROLL),
    "searching": ("#view=traffic", SEARCH),
    "opening another cluster every second": ("#view=traffic", CLICK),
    "the large cluster, scrolled": (f"#view=traffic&cluster={quote(LARGE, safe='')}", WHEEL),
    "the large cluster, what if every two seconds": (f"#view=traffic&cluster={quote(LARGE, safe='')}", ASK),
}


@contextmanager
def traced(page: Page) -> Iterator[list[float]]:
    """CPU time of each task of the page's own thread, in ms; there when the context is left."""
    client = page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    ended: list[object] = []
    client.on("Tracing.dataCollected", lambda message: events.extend(message["value"]))
    client.on("Tracing.tracingComplete", lambda message: ended.append(message))
    kinds = {"includedCategories": ["toplevel", "__metadata"], "excludedCategories": ["*"]}
    client.send("Tracing.start", {"traceConfig": kinds, "transferMode": "ReportEvents"})
    took: list[float] = []
    yield took
    client.send("Tracing.end")
    while not ended:
        page.wait_for_timeout(20)
    client.detach()
    threads = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    took += [
        one.get("tdur", 0) / 1000
        for one in events
        if one["name"] == "ThreadControllerImpl::RunTask" and (one["pid"], one["tid"]) in threads
    ]


def measured(page: Page, step: str, milliseconds: int) -> str:
    """One line of the table."""
    shown = int(page.evaluate(SHOWN))
    with traced(page) as took:
        page.evaluate(COUNTING)
        seen = page.evaluate(STEPS, [milliseconds, step])
    shown = int(page.evaluate(SHOWN)) - shown
    own = sorted(took)
    frames = sorted(seen["frames"])
    median, most = (frames[int(part * (len(frames) - 1))] for part in (0.5, 0.99))
    longest = max(seen["tasks"], default=0)
    used = f"{sum(one > LONG_MS for one in own)} | {own[-1]:.0f} | {sum(own) / milliseconds:.1%}".replace("%", " %")
    return f"{shown} | {used} | {len(seen['tasks'])} | {longest:.0f} | {median:.1f} | {most:.1f} | {frames[-1]:.0f}"


HEADS = (
    "scene", "made anew", "tasks over 50 ms of CPU", "the longest, ms of CPU", "CPU", "tasks over 50 ms by the clock",
    "the longest, ms", "frame, median, ms", "99 %", "the longest",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[""], help="part of a name; more by comma")
    chosen = parser.parse_args()
    each = chosen.endpoints // chosen.clusters

    def at(number: int, count: int) -> list[messages.At]:
        return [
            messages.At((f"10.{number >> 8}.{number & 255}.{one % 250}", 1000 + one // 250), priority=int(one % 5 == 4))
            for one in range(count)
        ]

    services = {messages.sni(f"service-{number}"): at(number, each) for number in range(chosen.clusters)}
    services[LARGE] = at(60_000, chosen.endpoints)
    with closing(ReplayThread(messages.resources(services))) as server, Eastgate(server.address) as gateway:
        gateway.wait_ready()
        print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
        with chromium() as browser:
            for name, (fragment, step) in SCENES.items():
                if not any(part in name for part in chosen.only):
                    continue
                # Steps are scripts that the page's policy rightly forbids.
                page = browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)
                if fragment:
                    page.goto(f"{gateway.admin}/{fragment}")
                    page.wait_for_selector("main[data-ready]")
                print(f"| {name} | {measured(page, step, int(1000 * chosen.seconds))} |", flush=True)
                page.close()


if __name__ == "__main__":
    main()
