"use strict";
// What the page knows is what /state says; it asks again and again, and shows the difference.

const ASK_EVERY_MS = 500;
const SPARK_MS = 700;
const SVG = "http://www.w3.org/2000/svg";
const map = document.getElementById("map");
const layers = ["ways", "sparks", "places"].map((name) => made("g", { id: name }, map));
const places = new Map();
const drawn = new Map();
let before = new Map();

function made(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

function moved(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

const number = (value) => Math.round(value).toLocaleString("en");

// Springs along channels, everybody pushing everybody away: from the same start always the same picture.
function arrange(names, pairs) {
  const at = names.map((_, i) => {
    const turn = (2 * Math.PI * i) / names.length;
    return [Math.cos(turn), Math.sin(turn)];
  });
  const ideal = 1.6 / Math.sqrt(names.length);
  for (let round = 0; round < 400; round++) {
    const pull = names.map(() => [0, 0]);
    for (let i = 0; i < at.length; i++) {
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
    const most = 0.08 * (1 - round / 400);
    for (let i = 0; i < at.length; i++) {
      const far = Math.hypot(...pull[i]);
      if (far > 0) {
        at[i][0] += (pull[i][0] / far) * Math.min(far, most);
        at[i][1] += (pull[i][1] / far) * Math.min(far, most);
      }
    }
  }
  return at;
}

function settle(state) {
  const names = state.nodes.map((node) => node.name);
  const index = new Map(names.map((name, i) => [name, i]));
  const at = arrange(names, state.channels.map(({ nodes: [a, b] }) => [index.get(a), index.get(b)]));
  const [xs, ys] = [at.map((p) => p[0]), at.map((p) => p[1])];
  const wide = Math.max(0.5, Math.max(...xs) - Math.min(...xs));
  const high = Math.max(0.5, Math.max(...ys) - Math.min(...ys));
  names.forEach((name, i) => {
    places.set(name, [
      60 + (880 * (at[i][0] - Math.min(...xs))) / wide,
      50 + (590 * (at[i][1] - Math.min(...ys))) / high,
    ]);
  });
  map.setAttribute("viewBox", "0 0 1000 700");
}

function drawChannel(channel) {
  const [a, b] = channel.nodes.map((name) => places.get(name));
  const [left, right] = channel.balances_msat ?? [1, 1];
  const share = left / Math.max(1, left + right);
  const middle = [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];
  let parts = drawn.get(channel.channel_id);
  if (!parts) {
    const group = made("g", { class: "channel" }, layers[0]);
    parts = {
      group,
      first: made("line", { class: "first" }, group),
      second: made("line", { class: "second" }, group),
      title: made("title", {}, group),
    };
    drawn.set(channel.channel_id, parts);
  }
  moved(parts.first, { x1: a[0], y1: a[1], x2: middle[0], y2: middle[1] });
  moved(parts.second, { x1: middle[0], y1: middle[1], x2: b[0], y2: b[1] });
  parts.group.classList.toggle("away", !channel.connected);
  parts.group.dataset.balances = `${left} ${right}`;
  parts.title.textContent =
    `${channel.nodes[0]} ${number(left / 1000)} sat — ${number(right / 1000)} sat ${channel.nodes[1]}`;
}

function drawNode(node) {
  const [x, y] = places.get(node.name);
  let parts = drawn.get(node.name);
  if (!parts) {
    const group = made("g", { class: "node" }, layers[2]);
    made("circle", { r: 8, cx: x, cy: y }, group);
    made("text", { x, y: y - 14 }, group).textContent = node.name;
    parts = { group, earned: made("text", { class: "earned", x, y: y + 22 }, group) };
    drawn.set(node.name, parts);
  }
  parts.group.classList.toggle("down", !node.up);
  parts.earned.textContent = node.fees_earned_msat ? `+${number(node.fees_earned_msat)} msat` : "";
}

// Whatever left one side of a channel since we looked last runs along it.
function spark(channel) {
  const [left] = channel.balances_msat ?? [0];
  const was = before.get(channel.channel_id);
  if (was === undefined || was === left) return;
  const ends = channel.nodes.map((name) => places.get(name));
  const [from, to] = left < was ? ends : ends.reverse();
  const dot = made("circle", { class: "spark", r: 6, cx: from[0], cy: from[1] }, layers[1]);
  const began = performance.now();
  const step = (now) => {
    const part = Math.min(1, (now - began) / SPARK_MS);
    moved(dot, { cx: from[0] + (to[0] - from[0]) * part, cy: from[1] + (to[1] - from[1]) * part });
    if (part < 1) requestAnimationFrame(step); else dot.remove();
  };
  requestAnimationFrame(step);
}

function row(...cells) {
  const line = document.createElement("tr");
  for (const cell of cells) line.insertCell().textContent = cell;
  return line;
}

function show(state) {
  if (!places.size) settle(state);
  document.title = `${state.name} · rill testnet`;
  document.getElementById("name").textContent = state.name;
  document.getElementById("facts").textContent =
    `${state.nodes.length} nodes, ${state.channels.length} channels, height ${state.height}`;
  state.channels.forEach(drawChannel);
  state.nodes.forEach(drawNode);
  state.channels.forEach(spark);
  before = new Map(state.channels.map((channel) => [channel.channel_id, channel.balances_msat?.[0]]));
  document.getElementById("nodes").replaceChildren(...state.nodes.map((node) => node.up
    ? row(node.name, number(node.balance_msat / 1000), number(node.fees_earned_msat))
    : row(node.name, "down", "")));
  document.getElementById("payments").replaceChildren(...state.payments.toReversed().map((paid) => {
    const item = document.createElement("li");
    item.textContent = `${paid.payer} → ${paid.payee}: ${number(paid.amount_msat)} msat, ` +
      `fees ${number(paid.fee_msat)} msat, ${paid.seconds} s`;
    return item;
  }));
  document.getElementById("none").hidden = state.payments.length > 0;
}

async function watch() {
  try {
    const answer = await fetch("state");
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.json());
  } catch {
    document.getElementById("facts").textContent = "the network does not answer: is it up?";
  }
  setTimeout(watch, ASK_EVERY_MS);
}

watch();
