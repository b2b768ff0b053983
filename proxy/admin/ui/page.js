// The page for people. Everything shown is made of text nodes: names come from strangers. Asks with GET, changes nothing.
"use strict";

const MAIN = document.getElementById("main");
const VIEWS = { traffic: "Traffic", compare: "Compare", refusals: "Refusals", events: "Events", resources: "Resources", certs: "Certificates", doctor: "Doctor" };
const STATES = {
  well: "well", reduced: "endpoints missing", spilled: "spilled over", panic: "panic", refusing: "refuses connections",
  warming: "waits for endpoints", direct: "no load balancing", empty: "no endpoints",
};
const REFRESH_MS = 5000;
const ROWS = 200;
// Laying out a table of twice as many lines takes a browser a pause that is felt.
const ENDPOINTS = 100;
const SVG = "http://www.w3.org/2000/svg";
let shown = {};
let rows = ENDPOINTS;

/* Nodes: attributes by name, a function is a listener, all other content is text. */
function make(tag, attributes = {}, ...content) {
  return fill(document.createElement(tag), attributes, content);
}
function draw(tag, attributes = {}, ...content) {
  return fill(document.createElementNS(SVG, tag), attributes, content);
}
function fill(node, attributes, content) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const one of content.flat(Infinity)) if (one !== null && one !== undefined && one !== false) node.append(one instanceof Node ? one : String(one));
  return node;
}

/* The question stands in the URL, so that it can be sent to somebody: #view=traffic&cluster=NAME&down=zone=z1&down=... */
function question() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const view = asked.get("view") ?? "traffic";
  return { view: Object.hasOwn(VIEWS, view) ? view : "traffic", cluster: asked.get("cluster") ?? "", down: [...new Set(asked.getAll("down"))],
    before: asked.get("before") ?? "", after: asked.get("after") ?? "now" };
}
function link({ view = "traffic", cluster = "", down = [], before = "", after = "now" }) {
  const asked = new URLSearchParams({ view });
  if (cluster) asked.set("cluster", cluster);
  for (const one of down) asked.append("down", one);
  if (before) { asked.set("before", before); asked.set("after", after); }
  return `#${asked}`;
}

/* What an answer says; noted in `heard`. The same text is the same object, so nobody changes it. */
async function ask(path, heard) {
  const answer = await fetch(path, { cache: "no-store" }), text = await answer.text();
  const known = shown.heard?.get(path), failed = !answer.ok;
  await pause();
  const said = known?.text === text && known.failed === failed ? known : { text, failed, value: failed ? null : JSON.parse(text) };
  heard.set(path, said);
  await pause();
  if (failed) throw new Error(text.trim() || `${answer.status}`);
  return said.value;
}
/* Others get a turn, where one piece of work follows the other. */
const pause = () => new Promise((done) => { setTimeout(done); });
const percent = (part) => (part === 0 ? "0 %" : part < 0.001 ? "< 0.1 %" : `${(100 * part).toFixed(1).replace(/\.0$/, "")} %`);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const bytes = (number) => { const step = Math.min(4, Math.floor(Math.log2(Math.max(number, 1)) / 10)); return `${(number / 1024 ** step).toFixed(step ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][step]}`; };
const kin = (priority) => Math.min(priority, 4);

/* outbound|80|v1|web.shop.svc.cluster.local and its SNI form, as people say it. */
function spoken(name) {
  const parts = name.startsWith("outbound_.") ? name.split("_.") : name.split("|");
  if (parts.length !== 4 || !/^(outbound|inbound)$/.test(parts[0])) return { title: name, more: "" };
  const [host, ...rest] = [parts[3] || "(no host)", parts[1] && `port ${parts[1]}`, parts[2] && `subset ${parts[2]}`].filter(Boolean);
  return { title: host.replace(/\.svc\.cluster\.local$/, ""), more: rest.join(", ") };
}

/* The focus goes there, and the question in the URL stays. */
function skips(event) {
  event.preventDefault();
  document.getElementById(event.target.hash.slice(1)).focus();
}
const skip = (text, id) => make("a", { class: "skip", href: `#${id}`, "data-key": `skip ${id}`, click: skips }, text);

/* New content takes the old one's place; who had the focus keeps it. */
function put(place, ...content) {
  const key = document.activeElement?.dataset?.key;
  const lists = [...place.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, one.scrollTop]);
  place.replaceChildren(...content.flat(Infinity).filter(Boolean));
  for (const [name, top] of lists) { const one = place.querySelector(`[data-scroll="${name}"]`); if (one) one.scrollTop = top; }
  if (key) [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus({ preventScroll: true });
}
function table(caption, heads, lines) {
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    make("table", {}, make("caption", { class: "hidden" }, caption),
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col", class: head.startsWith("#") && "number" }, head.replace("#", ""))))),
      make("tbody", {}, lines.map((line) => make("tr", {}, line.map((cell, column) => make("td", { class: heads[column].startsWith("#") && "number" }, cell)))))));
}

/* Where connections go: bands from all of them to priorities, and on to localities. */
function flow(said, explained) {
  const width = Math.max(300, Math.min(1000, shown.width ?? 800)), narrow = width < 560, x = narrow ? [0, width * 0.32, width - 138] : [0, width * 0.34, width * 0.68];
  let localities = explained.groups.map((one) => ({ ...one, name: one.locality || "no locality" })).sort((a, b) => a.priority - b.priority || b.share - a.share);
  if (localities.length > 24) {
    const rest = localities.slice(23);
    localities = [...localities.slice(0, 23), ...[...new Set(rest.map((one) => one.priority))].map((priority) => {
      const those = rest.filter((one) => one.priority === priority);
      return { priority, name: `${those.length} more localities`, share: those.reduce((sum, one) => sum + one.share, 0), endpoints: those.reduce((sum, one) => sum + one.endpoints, 0) };
    })];
  }
  const gap = 42, tall = 120, height = Math.max(localities.length * gap + tall, 150);
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence(explained) });
  let left = 20, down = 20;
  const shorten = (text, room) => (text.length > room ? `${text.slice(0, room - 1)}…` : text);
  const letters = Math.max(8, Math.floor((width - x[2] - 14) / 7.4));
  for (const priority of explained.priorities) {
    const mine = localities.filter((one) => one.priority === priority.priority);
    const share = mine.reduce((sum, one) => sum + one.share, 0);
    const from = left + (share * tall) / 2;
    const start = down;
    let inner = 0;
    for (const one of mine) {
      const thick = Math.max(one.share * tall, 1.5), y = down + Math.max(thick, 22) / 2, middle = start + inner + thick / 2;
      const path = `M ${x[1] + 12} ${middle} C ${(x[1] + x[2]) / 2} ${middle}, ${(x[1] + x[2]) / 2} ${y}, ${x[2]} ${y}`;
      picture.append(draw("path", { d: path, class: `band k${kin(one.priority)} ${one.share ? "" : "gone"}`, "stroke-width": thick }));
      if (one.share) picture.append(draw("path", { d: path, class: `pulse k${kin(one.priority)}` }));
      picture.append(draw("text", { x: x[2] + 10, y: y - 1 }, shorten(one.name, letters), draw("title", {}, one.name)),
        draw("text", { x: x[2] + 10, y: y + 14, class: "soft" }, `${percent(one.share)} · ${count(one.endpoints, "endpoint")}`));
      inner += thick;
      down += Math.max(thick, 22) + 20;
    }
    const middle = start + Math.max(inner, 3) / 2;
    const path = `M 8 ${from} C ${x[1] / 2} ${from}, ${x[1] / 2} ${middle}, ${x[1]} ${middle}`;
    picture.append(draw("path", { d: path, class: `band k${kin(priority.priority)} ${share ? "" : "gone"}`, "stroke-width": Math.max(share * tall, 1.5) }));
    if (share) picture.append(draw("path", { d: path, class: `pulse k${kin(priority.priority)}` }));
    picture.append(draw("line", { x1: x[1] + 6, x2: x[1] + 6, y1: start, y2: start + Math.max(inner, 6), class: `k${kin(priority.priority)}`, "stroke-width": 12 }));
    picture.append(draw("text", { x: x[1] - 4, y: middle - 2, "text-anchor": "end" }, `P${priority.priority} ${priority.load_percent} %`));
    left += share * tall;
    if (!mine.length) down += 30;
  }
  picture.append(draw("line", { x1: 4, x2: 4, y1: 20, y2: Math.max(left, 26), class: explained.refused ? "kr" : "k0", "stroke-width": 8 }));
  picture.setAttribute("viewBox", `0 0 ${width} ${Math.max(down, left) + 10}`);
  return picture;
}

function sentence(explained) {
  if (explained.refused) return "Every new connection is refused: no endpoint can be picked.";
  const carried = explained.priorities.filter((one) => one.load_percent > 0);
  const refused = explained.refused_share ? ` ${percent(explained.refused_share)} are refused.` : "";
  return `${carried.map((one) => `${one.load_percent} % go to P${one.priority} (${one.localities || "no locality"})`).join(", ")}.${refused}`;
}

function listOf(overview, asked) {
  const wanted = (shown.filter ?? "").toLowerCase();
  const found = overview.clusters.filter((one) => one.name.toLowerCase().includes(wanted));
  // A list of thousands is not made anew at each look; whoever looks for one of them searches.
  const cut = found.slice(0, shown.listed ?? ROWS), chosen = found.find((one) => one.name === asked.cluster);
  if (chosen && !cut.includes(chosen)) cut.unshift(chosen);
  const items = cut.map((one) => {
    const { title, more } = spoken(one.name);
    return make("li", {}, make("a", { href: link({ cluster: one.name }), "aria-current": one.name === asked.cluster && "true", title: one.name, "data-key": `cluster ${one.name}` },
      title, make("small", {}, make("span", {}, [more, one.name.startsWith("outbound_.") && "SNI"].filter(Boolean).join(", ") || one.type),
        make("span", { class: `state ${one.state in STATES && !["warming", "direct", "empty"].includes(one.state) ? one.state : "idle"}` }, STATES[one.state] ?? one.state))));
  });
  return [make("p", { class: "soft", role: "status" }, `${found.length} of ${count(overview.clusters.length, "cluster")}`),
    make("ul", { "data-scroll": "clusters" }, items),
    found.length > cut.length && make("button", { "data-key": "more clusters", click: () => { shown.listed = cut.length + ROWS; refresh(true); } }, `${found.length - cut.length} more clusters`)].filter(Boolean);
}

function tiles(overview) {
  const all = overview.clusters, sum = (of) => all.reduce((total, one) => total + of(one), 0), of = (...states) => all.filter((one) => states.includes(one.state)).length;
  return make("div", { class: "tiles" }, [
    [all.length, "clusters", ""],
    [`${sum((one) => one.healthy).toLocaleString("en")} / ${sum((one) => one.endpoints).toLocaleString("en")}`, "healthy endpoints", ""],
    [sum((one) => one.active).toLocaleString("en"), "open connections", ""],
    [of("spilled", "panic"), "clusters spilled over or in panic", of("spilled", "panic") ? "spilled" : ""],
    [of("refusing"), "clusters that refuse", of("refusing") ? "refusing" : ""],
  ].map(([number, text, kind]) => make("div", { class: "tile" }, make("b", { class: kind }, number), make("span", {}, text))));
}

function switches(asked, explained) {
  const toggle = (what) => asked.down.includes(what) ? asked.down.filter((one) => one !== what) : [...asked.down, what];
  const flip = (what, text) => make("button", { type: "button", "aria-pressed": String(asked.down.includes(what)), "data-key": `flip ${what}`,
    click: () => { location.hash = link({ ...asked, down: toggle(what) }); } }, text);
  // A comma divides outages in a question, so a name that holds one cannot be asked about.
  const localities = [...new Set(explained.groups.map((one) => one.locality))];
  const names = (of) => [...new Set(localities.map(of))].filter((one) => one && !one.includes(",")).slice(0, 30);
  const regions = names((one) => one.split("/")[0]);
  const zones = names((one) => one.split("/").slice(0, 2).join("/")).filter((one) => one.includes("/"));
  return { flip, all: make("div", { class: "choices" },
    regions.map((one) => flip(`region=${one}`, `region ${one}`)), zones.map((one) => flip(`zone=${one}`, `zone ${one}`)),
    explained.priorities.map((one) => flip(`priority=P${one.priority}`, `P${one.priority}`)),
    asked.down.length ? make("a", { href: link({ cluster: asked.cluster }), "data-key": "clear" }, "everything up again") : null) };
}

function endpointTable(said, explained, asked, flip) {
  const lines = explained.endpoints;
  const chosen = lines.map((one, row) => {
    const [active, total, failed] = said.connections[one.address] ?? [0, 0, 0];
    const bar = make("i"); bar.style.width = `${100 * one.share}%`;
    const was = asked.down.length ? ` (was ${percent(said.endpoints[row]?.share ?? 0)})` : "";
    return [make("span", { class: "mono" }, one.address), one.locality || "–", `P${one.priority}`, one.weight, one.health.toLowerCase(),
      [`${percent(one.share)}${was}`, make("span", { class: "bar", "aria-hidden": "true" }, bar), one.reason && make("span", { class: "soft" }, one.reason)],
      active, total, failed,
      one.address.includes(",") ? "" : flip(`down=${one.address}`, [asked.down.includes(`down=${one.address}`) ? "bring up" : "take down", make("span", { class: "hidden" }, ` ${one.address}`)])];
  });
  return [table("Endpoints", ["Address", "Locality", "Priority", "#Weight", "Health", "Share of new connections", "#Open", "#So far", "#Failed", "What if"], chosen),
    explained.endpoint_count > lines.length && make("p", {}, make("button", { type: "button", "data-key": "more", click: () => { rows += 10 * ENDPOINTS; refresh(true); } }, `show more of ${explained.endpoint_count.toLocaleString("en")}`))];
}

/* What was counted since the proxy began, beside what would be now. */
function soFar(spill) {
  const all = spill.reduce((sum, one) => sum + one.connections, 0);
  return table("Connections so far", ["Priority", "Locality", "#Connections", "#Share", "#Open", "#Failed connects", "#From endpoints", "#To endpoints"], spill.map((one) => [
    `P${one.priority}`, one.locality || "no locality", one.connections.toLocaleString("en"), all ? percent(one.connections / all) : "–", one.active.toLocaleString("en"),
    one.failures.toLocaleString("en"), bytes(one.received), bytes(one.sent)]));
}
function clusterView(said, asked) {
  const { title, more } = spoken(said.cluster);
  const then = said.what_if ? { ...said, ...said.what_if } : said;
  const { flip, all } = switches(asked, said);
  return [
    make("section", { class: `card ${said.what_if ? "question" : ""}` },
      make("h1", {}, title), make("p", { class: "soft" }, [more, said.policy.toLowerCase().replace("_", " "), `overprovisioning ${said.overprovisioning_factor} %`, `panic threshold ${said.panic_threshold} %`].filter(Boolean).join(" · ")),
      make("p", { class: "mono soft" }, said.cluster),
      said.refused_because && make("p", { class: "headline refusing" }, `Connections are refused: ${said.refused_because}`),
      make("p", { class: "headline", id: "headline", role: "status" }, said.what_if ? "What if: " : "", sentence(then)),
      said.what_if && make("p", { class: "spilled" }, `Computed with ${said.what_if.changes.join(", ")}; nothing is touched. Now: ${sentence(said)}`)),
    make("section", { class: "card flow", "aria-labelledby": "flow" }, make("h2", { id: "flow" }, "Where new connections go"), flow(said, then)),
    make("section", { class: "card", "aria-labelledby": "why" }, make("h2", { id: "why" }, "Why"),
      make("div", { class: "why" }, then.priorities.map((one) => make("div", { class: `b${kin(one.priority)}` },
        make("h3", {}, `P${one.priority}: ${one.load_percent} %`), one.arithmetic.map((line) => make("p", {}, line)),
        one.gateways.length > 0 && make("p", { class: "soft" }, `through ${one.gateways.slice(0, 3).join(", ")}`)))),
      then.localities?.length > 0 && make("ul", { class: "plain" }, then.localities.map((one) => make("li", {}, `P${one.priority} ${one.locality}: ${one.arithmetic}`))),
      said.notes.length > 0 && make("ul", { class: "plain soft" }, said.notes.map((one) => make("li", {}, one)))),
    make("section", { class: "card", "aria-labelledby": "whatif" }, make("h2", { id: "whatif" }, "What if these were down?"),
      make("p", { class: "soft" }, "Computed by the tables that connections are picked from. The address of this page holds the question."), all),
    said.runway.length > 0 && make("section", { class: "card", "aria-labelledby": "runway" }, make("h2", { id: "runway" }, "How much may fail until traffic moves"),
      make("ul", { class: "plain" }, said.runway.map((one) => make("li", {}, `P${one.priority} (${one.healthy} of ${one.total} healthy): ${one.sentence}`)))),
    said.spill?.length > 0 && make("section", { class: "card", "aria-labelledby": "sofar" }, make("h2", { id: "sofar" }, "Where connections went so far"), soFar(said.spill)),
    said.findings.length > 0 && make("section", { class: "card", "aria-labelledby": "found" }, make("h2", { id: "found" }, "Findings"), said.findings.map((one) => finding(one))),
    make("section", { class: "card", "aria-labelledby": "endpoints" }, make("h2", { id: "endpoints" }, count(said.endpoint_count, "endpoint")), endpointTable(said, then, asked, flip)),
  ];
}

function finding(one, heading = "h3") {
  return make("div", { class: "finding" },
    make(heading, { class: one.severity === "error" ? "refusing" : "spilled" }, `${one.severity}: ${one.rule}`),
    one.cluster && make("p", { class: "mono" }, make("a", { href: link({ cluster: one.cluster }) }, one.cluster)),
    make("p", {}, one.evidence), make("p", { class: "soft" }, `Cause: ${one.cause}`), make("p", {}, `Fix: ${one.fix}`), one.yaml && make("p", { class: "mono" }, one.yaml));
}

async function traffic(asked, ask) {
  const overview = await ask("ui/clusters");
  if (!asked.cluster && overview.clusters.length) {
    const worst = ["refusing", "panic", "spilled", "reduced", "warming"];
    const rank = (one) => (worst.indexOf(one.state) + worst.length + 1) % (worst.length + 1);
    asked = { ...asked, cluster: [...overview.clusters].sort((a, b) => rank(a) - rank(b))[0].name };
  }
  let detail = () => [make("p", { class: "card" }, "No cluster has been accepted yet.")];
  if (asked.cluster) {
    const path = new URLSearchParams({ name: asked.cluster, rows });
    if (asked.down.length) path.set("what_if", asked.down.join(","));
    try {
      const said = await ask(`ui/cluster?${path}`.replaceAll("+", "%20"));
      detail = () => clusterView(said, asked);
    } catch (error) {
      detail = () => [make("section", { class: "card" }, make("h1", {}, spoken(asked.cluster).title), make("p", { role: "alert" }, error.message),
        asked.down.length > 0 && make("p", {}, make("a", { href: link({ cluster: asked.cluster }) }, "everything up again")))];
    }
  }
  return () => trafficView(overview, asked, detail);
}
async function trafficView(overview, asked, detail) {
  const list = make("div", { id: "clusters" }, listOf(overview, asked));
  await pause();
  const made = detail();
  await pause();
  const search = make("input", { type: "search", id: "search", placeholder: "web.shop, outbound, …", "data-key": "search", autocomplete: "off", value: shown.filter ?? "",
    input: (event) => { shown.filter = event.target.value; list.replaceChildren(...listOf(overview, asked)); } });
  return [tiles(overview), make("div", { class: "split" },
    make("section", { class: "card side", "aria-label": "Clusters" }, make("label", { for: "search", class: "hidden" }, "Find a cluster"), search, skip("Skip the list", "detail"), list),
    make("div", { id: "detail", tabindex: -1, "data-key": "detail" }, made))];
}

/* Two moments beside each other. */
async function compare(asked, ask) {
  const { moments } = await ask("ui/moments");
  if (!moments.length) return () => card("What moved between two moments", "Nothing has changed since the proxy began, or since this page was opened.");
  const known = (id) => id === "now" || moments.some((one) => String(one.id) === id);
  const before = known(asked.before) && asked.before !== "now" ? asked.before : String(moments.at(-1).id), after = known(asked.after) ? asked.after : "now";
  const { clusters, more } = await ask(`ui/compare?${new URLSearchParams({ before, after })}`);
  return () => compareView(moments, clusters, more, before, after);
}
function compareView(moments, clusters, more, before, after) {
  const said = (at) => at.replace("T", " ").slice(0, 19);
  const chosen = (name, value, more) => make("label", {}, name === "before" ? "From " : "to ", make("select", { id: name, "data-key": name,
    change: (event) => { location.hash = link({ view: "compare", before, after, [name]: event.target.value }); } },
    moments.map((one) => make("option", { value: one.id, selected: String(one.id) === value }, `${said(one.at)} UTC`)), more && make("option", { value: "now", selected: value === "now" }, "now")));
  const changes = clusters.map((one) => make("div", { class: "finding" }, make("h2", {}, make("a", { href: link({ cluster: one.name }) }, spoken(one.name).title),
    ` ${one.kind === "changed" ? (one.moved_points === null ? "" : `${one.moved_points.toFixed(1).replace(/\.0$/, "")} % moved`) : one.kind}`), make("p", { class: "mono soft" }, one.name), make("p", {}, one.sentence),
    one.endpoints.length > 0 && table(`Endpoints of ${one.name} that differ`, ["Endpoint", "#Before", "#After", "What else"], one.endpoints.map((each) => [make("span", { class: "mono" }, each.address),
      each.present[0] ? (each.before === null ? "–" : percent(each.before)) : "not there", each.present[1] ? (each.after === null ? "–" : percent(each.after)) : "gone", each.facts.join(", ") || "–"])),
    one.more_endpoints > 0 && make("p", { class: "soft" }, `${count(one.more_endpoints, "endpoint")} more`)));
  return card("What moved between two moments", make("p", { class: "choices" }, chosen("before", before, false), chosen("after", after, true)),
    make("p", { class: "soft" }, "By the shares of both moments, the cluster of which most moved first. A moment is what lasted for a second; late ones are kept finely, early ones coarsely."),
    changes.length ? changes : make("p", {}, "Between these nothing differs."), more > 0 && make("p", { class: "soft" }, `${count(more, "cluster")} more`));
}
async function refusals(asked, ask) {
  const { refusals: all } = await ask("refusals");
  const lines = () => all.slice(0, ROWS).map((one) => [one.time.replace("T", " ").slice(0, 19), make("b", {}, one.reason), make("span", { class: "mono name" }, one.server_name || "–"),
    one.nearest_server_name ? make("span", { class: "mono name" }, one.nearest_server_name) : "–", one.downstream, one.listener, one.policy || one.cluster || "–"]);
  return () => card("Latest refused connections", all.length ? table("Refused connections", ["When (UTC)", "Why", "Server name", "Nearest known name", "Client", "Listener", "Cluster or policy"], lines()) : "None was refused.");
}
async function events(asked, ask) {
  const { events: all, forgotten } = await ask("events");
  const lines = () => [...all].reverse().slice(0, ROWS).map((one) => [one.at.replace("T", " ").slice(0, 19), make("b", {}, one.kind),
    make("span", { class: "mono name" }, one.subject), one.cause, one.moved === undefined ? "–" : percent(one.moved)]);
  return () => card("What has happened to traffic", all.length ? table("Events", ["When (UTC)", "What", "Whom", "Cause", "#Moved"], lines()) : "Nothing yet.",
    forgotten > 0 && make("p", { class: "soft" }, `${forgotten} older ones are forgotten.`));
}
async function resources(asked, ask) {
  const found = await ask("debug/xds");
  const rank = { NACKED: 0, REQUESTED: 1, RESTORED: 2, ACKED: 3 };
  const all = [...found.resources].sort((a, b) => rank[a.state] - rank[b.state]);
  const lines = () => all.slice(0, ROWS).map((one) => [one.type, make("b", { class: one.state === "NACKED" ? "refusing" : "" }, one.state), make("span", { class: "mono name" }, one.name), one.rejected?.reason ?? "–"]);
  return () => card("What the control plane sent", make("p", { class: "soft" }, `${count(all.length, "resource")}, rejected ones first`), table("Resources", ["Type", "State", "Name", "Rejected because"], lines()));
}
async function certs(asked, ask) {
  const { certificates } = await ask("certs");
  const lines = () => certificates.flatMap((set) => [...set.cert_chain.map((one) => ["own", one]), ...set.ca_cert.map((one) => ["trusted", one])])
    .map(([kind, one]) => [kind, make("span", { class: "mono name" }, one.subject_alt_names.flatMap(Object.values).join(", ") || one.serial_number), one.days_until_expiration, one.expiration_time]);
  return () => card("Certificates", lines().length ? table("Certificates", ["Kind", "Names", "#Days left", "Ends"], lines()) : "None came by SDS.");
}
async function doctor(asked, ask) {
  const { findings } = await ask("ui/findings");
  return () => card("Why failover or cross-network traffic may not work", findings.length ? findings.map((one) => finding(one, "h2")) : "Nothing found.");
}
function card(title, ...content) {
  return [make("section", { class: "card" }, make("h1", {}, title), content)];
}

/* Each asks for what it needs, and gives what makes its content of that. */
const PAGES = { traffic, compare, refusals, events, resources, certs, doctor };
let turn = 0, answered = 0;
async function refresh(always = false) {
  const mine = ++turn;
  // Whoever asked sees that it is being asked.
  if (always) MAIN.setAttribute("aria-busy", "true");
  try {
    await show(mine, always);
  } finally {
    if (mine === turn) { answered = mine; MAIN.setAttribute("aria-busy", "false"); }
  }
}
async function show(mine, always) {
  const asked = question();
  for (const one of document.querySelectorAll("#views a")) one.toggleAttribute("aria-current", false);
  document.querySelector(`#views a[data-view="${asked.view}"]`)?.setAttribute("aria-current", "page");
  document.title = `${asked.cluster ? spoken(asked.cluster).title : VIEWS[asked.view]} – eastgate`;
  const server = document.getElementById("server");
  const heard = new Map();
  let content;
  try {
    shown.width = document.getElementById("detail")?.clientWidth - 34 || Math.min(innerWidth, 1440) - (innerWidth > 900 ? 470 : 60);
    const absent = () => card(VIEWS[asked.view], `${about.source || "This proxy"} has no such page.`);
    const view = isThere(asked.view) ? await PAGES[asked.view](asked, (path) => ask(path, heard)) : absent;
    const { version, state } = await ask("server_info", new Map());
    if (mine !== turn) return;
    server.replaceChildren(make("span", { class: `state ${state === "LIVE" ? "well" : "spilled"}` }, state.toLowerCase()), ` ${version}`);
    // What did not change is not even made anew.
    if (!always && [...heard].every(([path, said]) => shown.heard?.get(path) === said)) return;
    content = await view();
  } catch (error) {
    if (mine !== turn) return;
    server.replaceChildren(make("span", { class: "state refusing" }, "no answer"), ", what is shown may be old");
    content = MAIN.childElementCount && !always && shown.view === asked.view ? null : card(VIEWS[asked.view], make("p", { role: "alert" }, error.message));
  }
  if (mine !== turn || content === null) return;
  shown.view = asked.view;
  shown.heard = heard;
  const made = make("div", {}, content);
  // What did not change stays: selections, and what a screen reader is at.
  if (!always && MAIN.firstElementChild?.isEqualNode(made)) return;
  put(MAIN, made);
  MAIN.dataset.ready = String(Number(MAIN.dataset.ready ?? 0) + 1);
}

const about = await ask("ui/about", new Map()).catch(() => ({}));
const isThere = (view) => about.views?.includes(view) ?? true;
document.querySelector(".skip").addEventListener("click", skips);
if (about.source) document.querySelector("footer p").prepend(`Shows ${about.source}. `);
document.getElementById("views").append(...Object.entries(VIEWS).filter(([view]) => isThere(view)).map(([view, text]) => make("a", { href: link({ view }), "data-view": view }, text)));
addEventListener("hashchange", () => { rows = ENDPOINTS; refresh(true); });
addEventListener("resize", () => { clearTimeout(shown.resized); shown.resized = setTimeout(() => refresh(true), 200); });
// What takes long to find is asked for once, not again and again; and nobody asks again who still waits for an answer.
setInterval(() => { if (!document.hidden && answered === turn && question().view !== "doctor" && document.activeElement?.id !== "search") refresh(); }, REFRESH_MS);
refresh(true);
