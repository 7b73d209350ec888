"use strict";
const EVERY_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const $ = (id) => document.getElementById(id);

function put(id, text) { const node = $(id); if (node.textContent !== text) node.textContent = text; }
function number(value) {
  if (value > 0 && value < 0.1) return "< 0.1";
  return value >= 100 || Number.isInteger(value) ? whole.format(value) : value.toFixed(1);
}
function ms(value) { return value >= 1000 ? (value / 1000).toFixed(1) + " s" : number(value) + " ms"; }
function words(state) { return state.replaceAll("_", " "); }

function uptime(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]].map(([size, unit]) => {
    const count = Math.floor(seconds / size); seconds -= count * size; return [count, unit];
  });
  const first = parts.findIndex(([count]) => count > 0);
  return first < 0 ? "0s" : parts.slice(first, first + 2).map(([count, unit]) => count + unit).join(" ");
}

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(svg, values, width, height) {
  const points = values.length > 1 ? values : [0, 0];
  const top = Math.max(1, ...points);
  const step = width / (points.length - 1);
  const line = points.map((value, i) =>
    (i ? "L" : "M") + (i * step).toFixed(1) + " " + (height - 2 - (value / top) * (height - 6)).toFixed(1)).join("");
  const paths = [["area", line + "L" + width + " " + height + "L0 " + height + "Z"], ["line", line]];
  svg.replaceChildren(...paths.map(([name, d]) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name); path.setAttribute("d", d); return path;
  }));
}

function spark(values) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark"); svg.setAttribute("viewBox", "0 0 110 22");
  svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("aria-hidden", "true");
  draw(svg, values, 110, 22);
  return svg;
}

function table(id, heads, rows, empty) {
  const head = make("tr", {}, ...heads.map(([text, kind]) => make("th", { scope: "col", class: kind || "" }, text)));
  const body = rows.length ? rows.map((cells) => make("tr", {}, ...cells))
    : [make("tr", {}, make("td", { class: "none", colspan: String(heads.length) }, empty))];
  $(id).replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

function cell(content, kind = "") { return make("td", { class: kind }, content); }

function partitions(now) {
  const heads = [["Partition"], ["State", "left"], ["Role", "left"], ["Position"], ["Log end"], ["Lag"],
    ["Events/s"], ["Last minutes"], ["p50"], ["p99"]];
  table("partitions", heads, now.partitions.map((p) => [
    cell(String(p.partition)),
    make("td", { class: "left mark", "data-state": p.state }, words(p.state)),
    cell(p.leader ? "leader" : "standby", "left"),
    cell(number(p.position)), cell(number(p.log_end)), cell(number(p.lag)),
    cell(number(p.events_per_second)), cell(spark(now.history[String(p.partition)] || [])),
    cell(ms(p.latency_ms_p50)), cell(ms(p.latency_ms_p99)),
  ]), "This service projects nothing.");
}

function traffic(id, rows, empty) {
  table(id, [["Name"], ["Total"], ["Errors"], ["per s"], ["p50"], ["p99"]], rows.map((t) => [
    cell(t.name), cell(number(t.requests)), cell(number(t.errors), t.errors ? "bad" : ""),
    cell(number(t.per_second)), ...[t.ms_p50, t.ms_p99].map((p) => cell(t.per_second ? ms(p) : "–")),
  ]), empty);
}

function errors(now) {
  const own = now.last_errors.map((e) => [new Date(e.at), e.text]);
  const projected = now.partitions.flatMap((p) => p.last_errors.map((text) => {
    const cut = text.indexOf(" "); return [new Date(text.slice(0, cut)), text.slice(cut + 1)];
  }));
  const all = [...own, ...projected].sort((a, b) => b[0] - a[0]).slice(0, 10);
  $("errors").replaceChildren(...(all.length ? all.map(([at, text]) => make("li", {},
    make("time", {}, Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString()), make("span", {}, text)))
    : [make("li", {}, make("time", {}, "None since the start."))]));
}

function alarms(now) {
  const found = now.partitions.filter((p) => p.alarm);
  $("alarm").hidden = !found.length;
  $("alarm").replaceChildren(make("b", {}, "ALARM · PROJECTION STOPPED"), ...found.map((p) =>
    make("p", {}, "Partition " + p.partition + " " + p.alarm)));
  const reasons = found.length ? [] : now.reasons;
  $("reasons").hidden = !reasons.length;
  put("reasons", reasons.join(" "));
}

function figures(now) {
  const sum = (pick) => now.partitions.reduce((total, p) => total + pick(p), 0);
  const most = (pick) => Math.max(0, ...now.partitions.map(pick));
  const histories = Object.values(now.history);
  const samples = Math.max(0, ...histories.map((h) => h.length));
  const total = Array.from({ length: samples }, (_, i) =>
    histories.reduce((s, h) => s + (h[h.length - samples + i] || 0), 0));
  put("rate", number(sum((p) => p.events_per_second)));
  put("window", samples > 1 ? " · last " + uptime(samples * now.history_seconds) + " · top " + number(Math.max(...total)) : "");
  draw($("chart"), total, 600, 96);
  put("lag", number(sum((p) => p.lag)));
  put("p50", ms(most((p) => p.latency_ms_p50)));
  put("p99", ms(most((p) => p.latency_ms_p99)));
  put("position", number(sum((p) => p.position)));
  put("total", number(sum((p) => p.events_total)));
  put("uptime", uptime(now.uptime_seconds));
  put("memory", number(now.memory_mb) + " MB");
}

function links(now) {
  $("links").replaceChildren(...Object.entries(now.links).map(([name, url]) =>
    make("a", name === now.service ? { href: url, "aria-current": "page" } : { href: url }, name)));
}

function show(now) {
  document.body.dataset.state = now.state;
  document.title = (now.partitions.some((p) => p.alarm) ? "ALARM · " : "") + now.service + " · Causeloop";
  put("state", words(now.state));
  alarms(now); figures(now); partitions(now); errors(now); links(now);
  traffic("commands", now.commands, "No command yet.");
  traffic("http", now.http, "No request yet.");
  put("versions", Object.entries(now.versions).map(([name, version]) => name + " " + version).join(" · "));
  put("updated", new Date().toLocaleTimeString());
}

async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
  } catch (error) {
    document.body.dataset.state = "gone";
    put("state", "no answer");
  }
  setTimeout(refresh, EVERY_MS);
}
refresh();
