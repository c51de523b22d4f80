"use strict";
// What the page knows is what /state says; it asks again and again, and shows the difference.

const ASK_EVERY_MS = 500;
const SPARK_MS = 900;
const MOST_AMOUNTS = 16; // with more channels than these, balances are shown of the chosen one alone
const MOST_PAYMENTS = 6;
const OPEN = "CHANNELD_NORMAL";
const SVG = "http://www.w3.org/2000/svg";
const by = (id) => document.getElementById(id);
const map = by("map");
const layers = Object.fromEntries(["ways", "amounts", "sparks", "places"].map((id) => [id, made("g", { id }, map)]));
const places = new Map(); // by name
const drawn = new Map(); // by name of node, or id of channel
let before = new Map(); // what the first end of each channel had
let state = null;
let chosen = null;
let unit = 1; // how large a node of the picture is

function made(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  moved(element, attributes);
  parent?.append(element);
  return element;
}

function moved(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

const number = (value) => Math.round(value).toLocaleString("en");
const sat = (msat) => `${(msat / 1000).toLocaleString("en", { maximumFractionDigits: 3 })} sat`;
const short = (msat) => (msat / 1000).toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 });
const called = (name) => (name.length > 40 ? `${name.slice(0, 8)}…` : name);

// --- where everybody is

// Springs along channels, everybody pushing everybody away: from the same start always the same picture.
function arrange(count, pairs) {
  const at = Array.from({ length: count }, (_, i) => {
    const turn = (2 * Math.PI * i) / count - Math.PI / 2;
    return [1.3 * Math.cos(turn), Math.sin(turn)];
  });
  const ideal = 1.7 / Math.sqrt(count);
  const rounds = 600;
  for (let round = 0; round < rounds; round++) {
    const pull = at.map(([x, y]) => [-0.05 * x, -0.1 * y]);
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < i; j++) {
        const [x, y] = [at[i][0] - at[j][0], at[i][1] - at[j][1]];
        const push = (ideal * ideal) / Math.max(1e-4, x * x + y * y);
        pull[i][0] += x * push; pull[i][1] += y * push;
        pull[j][0] -= x * push; pull[j][1] -= y * push;
      }
    }
    for (const [a, b] of pairs) {
      const [x, y] = [at[b][0] - at[a][0], at[b][1] - at[a][1]];
      const stretch = Math.hypot(x, y) / ideal;
      pull[a][0] += x * stretch; pull[a][1] += y * stretch;
      pull[b][0] -= x * stretch; pull[b][1] -= y * stretch;
    }
    for (const [a, b] of pairs) clear(at, pull, a, b, ideal);
    const most = 0.1 * (1 - round / rounds);
    for (let i = 0; i < count; i++) {
      const far = Math.hypot(...pull[i]);
      if (far > 0) {
        at[i][0] += (pull[i][0] / far) * Math.min(far, most);
        at[i][1] += (pull[i][1] / far) * Math.min(far, most);
      }
    }
  }
  return at;
}

// Whoever is too near to a channel of others is pushed off it.
function clear(at, pull, a, b, ideal) {
  const [along, up] = [at[b][0] - at[a][0], at[b][1] - at[a][1]];
  const square = Math.max(1e-6, along * along + up * up);
  for (let k = 0; k < at.length; k++) {
    if (k === a || k === b) continue;
    const part = ((at[k][0] - at[a][0]) * along + (at[k][1] - at[a][1]) * up) / square;
    if (part <= 0 || part >= 1) continue;
    const [x, y] = [at[k][0] - at[a][0] - part * along, at[k][1] - at[a][1] - part * up];
    const far = Math.hypot(x, y);
    if (far > 0.35 * ideal) continue;
    const push = (1.5 * (0.35 * ideal - far)) / Math.max(1e-3, far);
    pull[k][0] += x * push; pull[k][1] += y * push;
  }
}

function settle(names) {
  const index = new Map(names.map((name, i) => [name, i]));
  const pairs = state.channels.map(({ nodes: [a, b] }) => [index.get(a), index.get(b)]);
  const at = arrange(names.length, pairs);
  const [xs, ys] = [at.map((p) => p[0]), at.map((p) => p[1])];
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const wide = Math.max(0.3, Math.max(...xs) - left);
  const high = Math.max(0.3, Math.max(...ys) - top);
  // the picture fills the frame, but is never stretched to more than half as long again
  const scale = [880 / wide, 560 / high];
  const least = Math.min(...scale);
  const [across, down] = scale.map((each) => Math.min(each, 1.5 * least));
  // small in a crowd, large on a small screen
  unit = Math.min(1, Math.max(0.55, Math.sqrt(20 / names.length)));
  unit *= Math.min(2, Math.max(1, 800 / Math.max(1, map.clientWidth)));
  places.clear();
  names.forEach((name, i) => {
    places.set(name, [
      500 + across * (at[i][0] - left - wide / 2),
      345 + down * (at[i][1] - top - high / 2),
    ]);
  });
  map.setAttribute("viewBox", "0 0 1000 700");
  drawn.clear();
  for (const layer of Object.values(layers)) layer.replaceChildren();
}

// --- what is drawn

function choosable(group, key) {
  moved(group, { tabindex: 0, role: "button" });
  group.addEventListener("click", () => choose(key));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(key);
  });
}

function drawChannel(channel) {
  const [a, b] = channel.nodes.map((name) => places.get(name));
  const [left, right] = channel.balances_msat ?? [1, 1];
  const share = left / Math.max(1, left + right);
  const along = (part) => [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part];
  let parts = drawn.get(channel.channel_id);
  if (!parts) {
    const group = made("g", { class: "channel" }, layers.ways);
    choosable(group, channel.channel_id);
    const amounts = [0, 1].map(() => made("text", { class: "amount", "font-size": 12 * unit }, layers.amounts));
    parts = { group, amounts, title: made("title", {}, group) };
    for (const name of ["reach", "first", "second"]) parts[name] = made("line", { class: name }, group);
    moved(parts.reach, { x1: a[0], y1: a[1], x2: b[0], y2: b[1] });
    drawn.set(channel.channel_id, parts);
  }
  const middle = along(share);
  const width = unit * Math.min(9, Math.max(3, 2 + Math.log10(channel.capacity_sat / 50_000) * 1.6));
  moved(parts.first, { x1: a[0], y1: a[1], x2: middle[0], y2: middle[1], "stroke-width": width });
  moved(parts.second, { x1: middle[0], y1: middle[1], x2: b[0], y2: b[1], "stroke-width": width });
  const classes = parts.group.classList;
  classes.toggle("gone", !channel.connected || channel.state !== OPEN);
  classes.toggle("busy", channel.htlcs > 0);
  classes.toggle("chosen", chosen === channel.channel_id);
  parts.group.dataset.balances = `${left} ${right}`;
  const said = channel.nodes.map((name, side) => `${called(name)} ${sat([left, right][side])}`).join(", ");
  parts.title.textContent = said;
  moved(parts.group, { "aria-label": `channel: ${said}`, "aria-pressed": chosen === channel.channel_id });
  // beside the line, not on it
  const long = Math.max(1, Math.hypot(b[0] - a[0], b[1] - a[1]));
  const aside = [((a[1] - b[1]) * 25 * unit) / long, ((b[0] - a[0]) * 14 * unit) / long];
  const isTold = chosen === channel.channel_id || state.channels.length <= MOST_AMOUNTS;
  parts.amounts.forEach((text, side) => {
    const [x, y] = along(side ? 0.76 : 0.24);
    moved(text, { x: x + aside[0], y: y + aside[1] + 4 * unit });
    text.textContent = isTold && channel.balances_msat ? short([left, right][side]) : "";
  });
}

function drawNode(name, node) {
  const [x, y] = places.get(name);
  let parts = drawn.get(name);
  if (!parts) {
    const group = made("g", { class: "node" }, layers.places);
    choosable(group, name);
    made("circle", { class: "dot", r: 9 * unit, cx: x, cy: y }, group);
    const text = (attributes) => made("text", { x, "font-size": 14 * unit, ...attributes }, group);
    text({ y: y - 15 * unit }).textContent = called(name);
    parts = { group, earned: text({ class: "earned", y: y + 24 * unit, "font-size": 12 * unit }) };
    drawn.set(name, parts);
  }
  parts.group.classList.toggle("down", node?.up === false);
  parts.group.classList.toggle("outside", !node);
  parts.group.classList.toggle("chosen", chosen === name);
  parts.earned.textContent = node?.fees_earned_msat ? `+${number(node.fees_earned_msat)} msat` : "";
  const holds = node?.up ? `${sat(node.balance_msat)} in channels` : node ? "down" : "not of this network";
  moved(parts.group, { "aria-label": `node ${called(name)}: ${holds}`, "aria-pressed": chosen === name });
}

// Whatever left one side of a channel since we looked last runs along it.
function spark(channel) {
  const [left] = channel.balances_msat ?? [0];
  const was = before.get(channel.channel_id);
  if (was === undefined || was === left) return;
  const ends = channel.nodes.map((name) => places.get(name));
  const [from, to] = left < was ? ends : ends.reverse();
  const dot = made("circle", { class: "spark", r: 7 * unit, cx: from[0], cy: from[1] }, layers.sparks);
  const began = performance.now();
  const step = (now) => {
    const part = Math.min(1, (now - began) / SPARK_MS);
    moved(dot, { cx: from[0] + (to[0] - from[0]) * part, cy: from[1] + (to[1] - from[1]) * part });
    if (part < 1) requestAnimationFrame(step); else dot.remove();
  };
  requestAnimationFrame(step);
}

// --- what is chosen

function choose(key) {
  chosen = chosen === key ? null : key;
  show(state);
}

function detailsOf(key) {
  const node = state.nodes.find((each) => each.name === key);
  if (node && !node.up) return [["state", "down: rill testnet up starts it"]];
  if (node) {
    return [
      ["id", node.id],
      ["address", `${node.host}:${node.port}`],
      ["socket", node.socket],
      ["in channels", sat(node.balance_msat)],
      ["fees earned", sat(node.fees_earned_msat)],
    ];
  }
  const channel = state.channels.find((each) => each.channel_id === key);
  if (!channel) return places.has(key) ? [["id", key]] : null;
  const sides = channel.nodes.flatMap((name, side) => {
    const fees = channel.fees?.[side];
    const asks = fees ? `${number(fees.fee_base_msat)} msat + ${number(fees.fee_proportional_millionths)} ppm` : "?";
    return [[called(name), channel.balances_msat ? sat(channel.balances_msat[side]) : "?"], ["… asks", asks]];
  });
  return [
    ["channel", channel.short_channel_id ?? "not confirmed"],
    ["capacity", `${number(channel.capacity_sat)} sat`],
    ...sides,
    ["on their way", `${channel.htlcs ?? 0} HTLCs`],
    ["state", channel.state === OPEN ? (channel.connected ? "open" : "not connected") : channel.state ?? "?"],
  ];
}

function showChosen() {
  const details = chosen === null ? null : detailsOf(chosen);
  by("chosen").hidden = details === null;
  if (details === null) return;
  const channel = state.channels.find((each) => each.channel_id === chosen);
  by("chosen-title").textContent = channel ? channel.nodes.map(called).join(" — ") : called(chosen);
  by("details").replaceChildren(...details.flatMap(([term, value]) => {
    const [name, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
    [name.textContent, text.textContent] = [term, value];
    return [name, text];
  }));
}

// --- the whole

function row(node) {
  const line = document.createElement("tr");
  const cells = node.up
    ? [node.name, number(node.balance_msat / 1000), number(node.fees_earned_msat)]
    : [node.name, "down", ""];
  for (const text of cells) line.insertCell().textContent = text;
  line.classList.toggle("chosen", chosen === node.name);
  line.cells[1].classList.toggle("down", !node.up);
  return line;
}

function paymentOf(paid) {
  const item = document.createElement("li");
  item.textContent = `${paid.payer} → ${paid.payee}: ${sat(paid.amount_msat)}`;
  const more = document.createElement("small");
  more.textContent = `fees ${sat(paid.fee_msat)}, ${Math.round(paid.seconds * 1000)} ms`;
  item.append(more);
  return item;
}

function show(told) {
  state = told;
  const nodes = new Map(state.nodes.map((node) => [node.name, node]));
  // whoever has a channel with us and is none of ours stands among us, too
  const names = [...new Set([...nodes.keys(), ...state.channels.flatMap((channel) => channel.nodes)])];
  if (names.some((name) => !places.has(name))) settle(names);
  document.title = `${state.name} · rill testnet`;
  by("name").textContent = state.name;
  by("facts").textContent =
    `${state.nodes.length} nodes, ${state.channels.length} channels, height ${state.height}`;
  state.channels.forEach(drawChannel);
  names.forEach((name) => drawNode(name, nodes.get(name)));
  state.channels.forEach(spark);
  before = new Map(state.channels.map((channel) => [channel.channel_id, channel.balances_msat?.[0]]));
  by("nodes").replaceChildren(...state.nodes.map(row));
  by("payments").replaceChildren(...state.payments.toReversed().slice(0, MOST_PAYMENTS).map(paymentOf));
  by("none").hidden = state.payments.length > 0;
  showChosen();
}

async function watch() {
  try {
    const answer = await fetch("state");
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.json());
  } catch {
    by("facts").textContent = "the network does not answer: is it up?";
  }
  setTimeout(watch, ASK_EVERY_MS);
}

const SCHEMES = { "light or dark": "light dark", light: "light", dark: "dark" };

by("scheme").addEventListener("click", () => {
  const names = Object.keys(SCHEMES);
  const next = names[(names.indexOf(by("scheme").textContent) + 1) % names.length];
  by("scheme").textContent = next;
  document.documentElement.style.colorScheme = SCHEMES[next];
});
by("close").addEventListener("click", () => choose(chosen));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen !== null) choose(chosen);
});

watch();
