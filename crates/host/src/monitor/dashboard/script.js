"use strict";
// The page of the monitoring port. It asks the endpoints that everybody may ask (metrics, connz,
// explainz) every two seconds, and draws. All text of others goes into the page as text, never as HTML.

const EVERY_MS = 2000;
const POINTS = 90; // three minutes
const CONNECTIONS_MAX = 100;
const EXPLAINED_MAX = 20; // consumers asked about at once
const STILL_ROUNDS = 3; // without a delivery or an acknowledgement: it stands still
const ACTIONS = document.documentElement.dataset.actions === "on";

const $ = (id) => document.getElementById(id);
// A relative address: the page works behind a proxy and below any base path.
const ask = (path) => fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// --- numbers as people read them

const whole = new Intl.NumberFormat("en");
function count(value) {
  if (value === undefined || !isFinite(value)) return "–";
  if (value < 10000) return whole.format(value < 10 && value % 1 ? Math.round(value * 10) / 10 : Math.round(value));
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, unit] = units.find(([size]) => value >= size);
  return (value / size).toFixed(1) + " " + unit;
}
function bytes(value) {
  if (value === undefined || !isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < 4; unit++) value /= 1024;
  return (unit && value < 100 ? value.toFixed(1) : Math.round(value)) + " " + units[unit];
}
function duration(seconds) {
  if (!isFinite(seconds)) return "–";
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 1) return (seconds * 1000).toFixed(1) + " ms";
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min`;
  return Math.floor(seconds) + " s";
}
const percent = (part) => (isFinite(part) ? (part * 100).toFixed(part < 0.1 ? 1 : 0) + " %" : "–");

// --- Prometheus' text format, as far as this server writes it

function parseMetrics(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const [, name, , labels, value] = line.match(/^(\w+)(\{(.*)\})? (\S+)$/) || [];
    if (!name) continue;
    const sample = { value: Number(value) };
    for (const [, key, quoted] of (labels || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      sample[key] = quoted.replace(/\\(.)/g, (_, what) => (what === "n" ? "\n" : what));
    if (!metrics.has(name)) metrics.set(name, []);
    metrics.get(name).push(sample);
  }
  return metrics;
}

/** Rows by labels: every family of `families` becomes a column. */
function rowsOf(metrics, labels, families) {
  const rows = new Map();
  for (const [column, family] of Object.entries(families))
    for (const sample of metrics.get(family) || []) {
      const key = JSON.stringify(labels.map((label) => sample[label]));
      if (!rows.has(key)) rows.set(key, Object.fromEntries(labels.map((label) => [label, sample[label]])));
      rows.get(key)[column] = sample.value;
    }
  return rows;
}

// --- drawing

/** A table whose columns are [title, value of a row, class]; a value is text or an element. */
function fill(table, columns, rows, nothing) {
  const head = element("tr", {}, ...columns.map(([title, , kind]) => element("th", { className: kind || "" }, title)));
  const body = rows.map((row) => {
    const cells = columns.map(([title, value, kind]) => {
      const cell = element("td", { className: kind || "" }, value(row));
      cell.dataset.title = title;
      return cell;
    });
    return element("tr", {}, ...cells);
  });
  if (!rows.length) {
    const cell = element("td", { colSpan: columns.length, className: "text quiet" }, nothing);
    body.push(element("tr", {}, cell));
  }
  table.replaceChildren(head, ...body);
}

/** Lines over time; the first has its area filled. */
function graph(svg, series, text) {
  const { width, height } = svg.getBoundingClientRect();
  if (!width) return;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const make = (name, attributes, content = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = content;
    return made;
  };
  const top = Math.max(...series.flatMap(({ values }) => values.filter(isFinite)), 1e-9);
  const floor = height - 2, ceiling = 16;
  const x = (at, values) => width - ((values.length - 1 - at) * width) / (POINTS - 1);
  const y = (value) => floor - ((isFinite(value) ? value : 0) / top) * (floor - ceiling);
  const drawn = [make("line", { x1: 0, x2: width, y1: floor, y2: floor })];
  series.forEach(({ values, kind }, number) => {
    if (values.length < 2) return;
    const line = values.map((value, at) => `${at ? "L" : "M"}${x(at, values).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    if (!number) drawn.push(make("path", { class: "under", d: `${line}V${floor}H${x(0, values).toFixed(1)}Z` }));
    drawn.push(make("path", { class: kind, d: line }));
  });
  drawn.push(make("text", { x: 0, y: 10 }, top > 1e-6 ? text(top) : "0"));
  svg.replaceChildren(...drawn);
}

// --- what is known

const history = { received: [], sent: [], receivedBytes: [], sentBytes: [], processor: [], sync: [] };
let before; // the sample before, for rates
let moving = new Map(); // where consumers were, and for how many rounds, to tell who stands still
const reasons = new Map(); // why a consumer does not deliver, as last heard

function remember(name, value) {
  history[name].push(value);
  if (history[name].length > POINTS) history[name].shift();
}

function show(metrics, at) {
  const one = (name) => metrics.get(name)?.[0].value;
  const seconds = before && (at - before.at) / 1000;
  const perSecond = (name) => (before ? Math.max(0, one(name) - before.one(name)) / seconds : NaN);
  const rates = {
    received: perSecond("millrace_received_messages_total"),
    sent: perSecond("millrace_sent_messages_total"),
    receivedBytes: perSecond("millrace_received_bytes_total"),
    sentBytes: perSecond("millrace_sent_bytes_total"),
    processor: perSecond("process_cpu_seconds_total"),
  };
  const syncs = perSecond("millrace_journal_sync_seconds_count");
  rates.sync = syncs > 0 ? perSecond("millrace_journal_sync_seconds_sum") / syncs : 0;
  if (before) for (const [name, value] of Object.entries(rates)) remember(name, value);

  const build = metrics.get("millrace_build_info")?.[0] || {};
  $("server").textContent = build.server_name || "Millrace";
  document.title = `${build.server_name || "server"} – Millrace`;
  $("about").textContent =
    `Millrace ${build.version}, compatible with ${build.compatible_version}, up ${duration(one("millrace_uptime_seconds"))}`;
  const ready = one("millrace_ready") === 1;
  badge(ready ? "serving" : "not ready", ready ? "good" : "warn");

  const jetstream = metrics.has("millrace_jetstream_up");
  tiles([
    ["received / s", count(rates.received), bytes(rates.receivedBytes) + "/s"],
    ["sent / s", count(rates.sent), bytes(rates.sentBytes) + "/s"],
    ["connections", count(one("millrace_connections")), count(one("millrace_connections_total")) + " since the start"],
    ["subscriptions", count(one("millrace_subscriptions")), ""],
    ["memory", bytes(one("process_resident_memory_bytes")), percent(rates.processor) + " of a core"],
    ...(jetstream ? [
      ["streams", count(one("millrace_jetstream_streams")), count(one("millrace_jetstream_messages")) + " messages"],
      ["consumers", count(one("millrace_jetstream_consumers")), ""],
      ["stored", bytes(one("millrace_jetstream_storage_bytes")), bytes(one("millrace_jetstream_memory_bytes")) + " in memory"],
    ] : []),
  ]);
  graphs(jetstream);

  const streams = streamRows(metrics), consumers = consumerRows(metrics);
  showStreams(streams, consumers, one("millrace_streams_without_samples"));
  showConsumers(consumers, one("millrace_consumers_without_samples"));
  showAccounts(metrics);
  attention(one, consumers, streams);
  moving = new Map(consumers.map(({ key, place, rounds }) => [key, { place, rounds }]));
  before = { at, one };
  return consumers;
}

function badge(text, kind) {
  $("state").textContent = text;
  $("state").className = "badge " + kind;
}

function tiles(list) {
  const made = list.map(([title, value, more]) =>
    element("div", { className: "tile" }, element("span", {}, title), element("b", {}, value), element("small", {}, more)));
  $("tiles").replaceChildren(...made);
}

function graphs(jetstream) {
  const both = (one, other) => [{ values: history[one], kind: "in" }, { values: history[other], kind: "out" }];
  graph($("graph-messages"), both("received", "sent"), count);
  graph($("graph-bytes"), both("receivedBytes", "sentBytes"), bytes);
  graph($("graph-processor"), [{ values: history.processor, kind: "in" }], percent);
  $("sync-figure").hidden = !jetstream;
  graph($("graph-sync"), [{ values: history.sync, kind: "in" }], duration);
}

function streamRows(metrics) {
  const rows = rowsOf(metrics, ["account", "stream"], {
    messages: "millrace_stream_messages", bytes: "millrace_stream_bytes", subjects: "millrace_stream_subjects",
    first: "millrace_stream_first_sequence", last: "millrace_stream_last_sequence",
    consumers: "millrace_stream_consumers", originLag: "millrace_stream_origin_lag_messages",
  });
  return [...rows.values()];
}

function consumerRows(metrics) {
  const rows = rowsOf(metrics, ["account", "stream", "consumer"], {
    pending: "millrace_consumer_pending_messages", ackPending: "millrace_consumer_ack_pending_messages",
    redelivered: "millrace_consumer_redelivered_messages", waiting: "millrace_consumer_waiting_requests",
    floor: "millrace_consumer_ack_floor_sequence", delivered: "millrace_consumer_delivered_sequence",
    paused: "millrace_consumer_paused",
  });
  return [...rows].map(([key, row]) => {
    const place = row.floor + "/" + row.delivered;
    const known = moving.get(key);
    const rounds = known?.place === place ? known.rounds + 1 : 0;
    return { key, ...row, place, rounds, stuck: rounds >= STILL_ROUNDS && (row.pending > 0 || row.ackPending > 0) };
  });
}

function note(id, more, what) {
  $(id).textContent = more > 0 ? `${whole.format(more)} more ${what} are not listed: the page stays small.` : "";
}

function showStreams(streams, consumers, more) {
  const behind = new Map();
  for (const { account, stream, pending, ackPending } of consumers) {
    const key = JSON.stringify([account, stream]);
    behind.set(key, Math.max(behind.get(key) || 0, (pending || 0) + ackPending));
  }
  note("streams-note", more, "streams");
  fill($("stream-table"), [
    ["Stream", (row) => row.stream],
    ["Account", (row) => row.account, "text"],
    ["Messages", (row) => count(row.messages)],
    ["Bytes", (row) => bytes(row.bytes)],
    ["Subjects", (row) => count(row.subjects)],
    ["Sequences", (row) => (row.last ? `${whole.format(row.first)} – ${whole.format(row.last)}` : "–")],
    ["Consumers", (row) => count(row.consumers)],
    ["Slowest behind", (row) => (row.consumers ? lag(behind.get(JSON.stringify([row.account, row.stream])) || 0) : "–")],
    ["Behind origin", (row) => (row.originLag === undefined ? "–" : lag(row.originLag))],
  ], streams, "There are no streams.");
}

const lag = (value) => element("span", { className: value > 0 ? "warn" : "good" }, value > 0 ? count(value) : "none");

function showConsumers(consumers, more) {
  note("consumers-note", more, "consumers");
  fill($("consumer-table"), [
    ["Consumer", (row) => row.consumer],
    ["Stream", (row) => `${row.account} / ${row.stream}`, "name"],
    ["Pending", (row) => count(row.pending)],
    ["Unacknowledged", (row) => count(row.ackPending)],
    ["Redelivered", (row) => count(row.redelivered)],
    ["Waiting pulls", (row) => count(row.waiting)],
    ["Moving?", (row) => verdict(row), "text why"],
  ], consumers, "There are no consumers.");
}

/** Whether a consumer moves, and if not why. */
function verdict(row) {
  if (row.paused) return element("span", { className: "warn" }, reasons.get(row.key) || "it is paused");
  if (!row.pending && !row.ackPending) return element("span", { className: "good" }, "all is done");
  const reason = reasons.get(row.key);
  if (reason) return element("span", { className: row.stuck ? "warn" : "quiet" }, reason);
  return element("span", { className: "good" }, "delivering");
}

function showAccounts(metrics) {
  const rows = rowsOf(metrics, ["account"], {
    connections: "millrace_account_connections", subscriptions: "millrace_account_subscriptions",
    received: "millrace_account_received_messages_total", receivedBytes: "millrace_account_received_bytes_total",
    sent: "millrace_account_sent_messages_total", sentBytes: "millrace_account_sent_bytes_total",
    slow: "millrace_account_slow_consumers_total",
  });
  fill($("account-table"), [
    ["Account", (row) => row.account],
    ["Connections", (row) => count(row.connections)],
    ["Subscriptions", (row) => count(row.subscriptions)],
    ["Received", (row) => `${count(row.received)} (${bytes(row.receivedBytes)})`],
    ["Sent", (row) => `${count(row.sent)} (${bytes(row.sentBytes)})`],
    ["Slow consumers", (row) => count(row.slow)],
  ], [...rows.values()], "There are no accounts.");
}

function showConnections(answer) {
  note("connections-note", answer.total - answer.connections.length, "connections");
  fill($("connection-table"), [
    ["Connection", (row) => row.name || "#" + row.cid],
    ["From", (row) => `${row.ip}:${row.port}`, "text"],
    ["Client", (row) => [row.type === "websocket" ? "websocket" : "", row.lang, row.version].filter(Boolean).join(" ") || "–", "text"],
    ["User", (row) => [row.account, row.authorized_user].filter(Boolean).join(" / ") || "–", "text"],
    ["Received", (row) => `${count(row.in_msgs)} (${bytes(row.in_bytes)})`],
    ["Sent", (row) => `${count(row.out_msgs)} (${bytes(row.out_bytes)})`],
    ["Subscriptions", (row) => count(row.subscriptions)],
    ["Waiting", (row) => bytes(row.pending_bytes)],
    ["Up", (row) => row.uptime],
    ["Round trip", (row) => row.rtt || "–"],
  ], answer.connections, "Nobody is connected.");
}

function attention(one, consumers, streams) {
  const found = [];
  if (one("millrace_jetstream_up") === 0) found.push("JetStream does not serve: it reads its store, or has failed. The log says more.");
  if (one("millrace_jetstream_disk_full") === 1) found.push("The disk is full: publishes to streams are refused.");
  const cut = one("millrace_slow_consumers_total");
  if (cut) found.push(`${count(cut)} clients were cut since the start because they did not read fast enough.`);
  for (const row of streams) if (row.originLag > 0) found.push(`Stream ${row.stream} is ${count(row.originLag)} messages behind its origin.`);
  for (const row of consumers.filter((row) => row.stuck && reasons.has(row.key)))
    found.push(`Consumer ${row.consumer} of ${row.stream} stands still with ${count(row.pending)} pending: ${reasons.get(row.key)}`);
  $("attention-title").hidden = !found.length;
  $("attention").replaceChildren(...found.slice(0, 20).map((text) => element("li", {}, text)));
}

/** Asks why, of those that have something to deliver; the answers show with the next round. */
async function explain(consumers) {
  const asked = consumers.filter((row) => row.pending > 0 || row.ackPending > 0 || row.paused)
    .sort((one, other) => other.stuck - one.stuck).slice(0, EXPLAINED_MAX);
  const kept = new Set(asked.map((row) => row.key));
  for (const key of reasons.keys()) if (!kept.has(key)) reasons.delete(key);
  await Promise.all(asked.map(async ({ key, account, stream, consumer }) => {
    const answer = await ask("explainz?" + new URLSearchParams({ acc: account, stream, consumer }));
    if (!answer.ok) return;
    const { reasons: list } = await answer.json();
    if (list.length) reasons.set(key, list.map(({ text }) => text).join("; "));
    else reasons.delete(key);
  }));
}

// --- the rounds

async function round() {
  try {
    const answer = await ask("metrics");
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const consumers = show(parseMetrics(await answer.text()), performance.now());
    await explain(consumers);
    const connections = await ask(`connz?auth=1&limit=${CONNECTIONS_MAX}`);
    if (connections.ok) showConnections(await connections.json());
  } catch (error) {
    badge("no answer", "bad");
    $("about").textContent = String(error.message || error);
    before = undefined;
  }
  setTimeout(round, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

// --- tabs and theme

function turnTo() {
  const sections = [...document.querySelectorAll("main > section")];
  const wanted = sections.find(({ id }) => "#" + id === location.hash) || sections[0];
  for (const section of sections) section.hidden = section !== wanted;
  for (const link of document.querySelectorAll("nav a"))
    if (link.hash === "#" + wanted.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  scrollTo(0, 0);
  graphs(!$("sync-figure").hidden);
}

function setUp() {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  $("theme").onclick = () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };
  $("messages-tab").hidden = !ACTIONS;
  addEventListener("hashchange", turnTo);
  addEventListener("resize", () => graphs(!$("sync-figure").hidden));
  $("who").onsubmit = (event) => event.preventDefault();
  turnTo();
}

// --- publishing and peeking

async function act(output, what) {
  const shown = $(output);
  shown.textContent = "…";
  shown.className = "";
  const who = { user: $("user").value, password: $("password").value, token: $("token").value };
  try {
    // The extra header makes browsers ask first before another site may send this.
    const answer = await fetch("dashboard/act", {
      method: "POST",
      headers: { "Content-Type": "application/json", "Millrace-Action": "1" },
      body: JSON.stringify({ ...who, ...what }),
    });
    const { ok, error } = await answer.json();
    shown.textContent = error || ok;
    shown.className = error ? "bad" : "good";
  } catch (error) {
    shown.textContent = String(error.message || error);
    shown.className = "bad";
  }
}

$("publish").onsubmit = (event) => {
  event.preventDefault();
  act("published", { action: "publish", subject: $("subject").value, payload: $("payload").value, request: $("request").checked });
};
$("peek").onsubmit = (event) => {
  event.preventDefault();
  act("peeked", { action: "peek", stream: $("stream").value, sequence: Number($("sequence").value) || 0, last: $("last").value });
};

setUp();
round();
