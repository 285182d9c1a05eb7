// SPDX-License-Identifier: GPL-2.0-or-later
// The page of `nflowlevel explore`. What is seen is in the fragment of the URL, so a link holds it: COLUMN=VALUE for a
// filter (COLUMN= for no value, COLUMN.empty= for an empty text), !COLUMN=VALUE for what is excluded, from and to in seconds, where for a filter as text, geo for what sources
// are counted by, such as country. Values come from packets of others: they become text, never HTML.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const EMPTY = ".empty";
const byId = (id) => document.getElementById(id);
const state = () => [...new URLSearchParams(location.hash.slice(1))];
let shown = null;

function go(pairs) {
  location.hash = new URLSearchParams(pairs).toString();
}

function without(pairs, ...names) {
  return pairs.filter(([name]) => !names.includes(name));
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function makeRect(x, y, width, height, className) {
  const rect = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ x, y, width, height, class: className })) rect.setAttribute(name, value);
  return rect;
}

function when(secs) {
  const date = new Date(secs * 1000);
  return Number.isNaN(date.valueOf()) ? String(secs) : date.toISOString().slice(0, 19).replace("T", " ");
}
function lasting(secs) {
  const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => secs % each === 0);
  return `${secs / length} ${unit}`;
}
const value = (text) => (text === null ? "(none)" : text === "" ? "(empty)" : String(text));

function describe([name, text]) {
  if (name === "from") return `from ${when(text)}`;
  if (name === "to") return `before ${when(text)}`;
  if (name === "where") return text;
  if (name === "geo") return `by ${text} of src_ip`;
  const [column, sign] = name.startsWith("!") ? [name.slice(1), "≠"] : [name, "="];
  if (column.endsWith(EMPTY)) return `${column.slice(0, -EMPTY.length)} ${sign} (empty)`;
  return `${column} ${sign} ${text === "" ? "(none)" : text}`;
}

function drawFilters() {
  const list = byId("filters");
  const last = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(
    ...state().map((pair, at) => {
      const button = make("button", `${describe(pair)} ✕`, { "aria-label": `Remove filter ${describe(pair)}` });
      button.onclick = () => go(state().filter((_, other) => other !== at));
      const item = make("li");
      item.append(button);
      return item;
    }),
  );
  const left = list.querySelectorAll("button");
  if (last >= 0) (left[Math.min(last, left.length - 1)] || byId("count")).focus({ preventScroll: true });
}

function drawRange() {
  for (const name of ["from", "to"]) {
    const secs = new URLSearchParams(location.hash.slice(1)).get(name);
    // A field for times takes nothing else.
    byId(name).value = secs === null ? "" : when(secs).replace(" ", "T");
  }
}

function drawTime(answer) {
  const svg = byId("time");
  svg.replaceChildren();
  byId("axis").replaceChildren();
  if (!answer.time.length) return;
  const most = Math.max(...answer.time.map((row) => row[1] + row[2] + row[3]));
  const first = answer.time[0][0];
  const end = answer.time[answer.time.length - 1][0] + answer.step;
  const scale = 1000 / (end - first);
  shown = { first, end };
  for (const [start, allowed, blocked, other] of answer.time) {
    let top = 118;
    for (const [count, name] of [[blocked, "blocked"], [allowed, "allowed"], [other, "other"]]) {
      const height = (116 * count) / most;
      if (!count) continue;
      top -= height;
      const rect = makeRect((start - first) * scale, top, Math.max(answer.step * scale * 0.92, 0.5), height, name);
      const title = document.createElementNS(SVG, "title");
      title.textContent = `${when(start)} UTC: ${count.toLocaleString("en")} ${name}`;
      rect.append(title);
      svg.append(rect);
    }
  }
  byId("axis").append(make("span", when(first)), make("span", `a bar is ${lasting(answer.step)}`), make("span", when(end)));
}

function refocus(list, last) {
  // What had the focus was drawn anew, or is excluded: the next key goes on from its place.
  if (!last) return;
  const buttons = [...list.querySelectorAll("button")].filter(
    (each) => each.className === last.className && each.dataset.column === last.dataset.column,
  );
  (buttons.find((each) => each.dataset.value === last.dataset.value) || buttons[0])?.focus({ preventScroll: true });
}

function drawPanels(answer) {
  const last = document.activeElement.closest("#panels button");
  byId("panels").replaceChildren(
    ...answer.panels.map(({ column, rows }) => {
      const panel = make("div");
      panel.append(make("h2", column));
      const list = make("ol");
      const most = rows.length ? rows[0][1] : 1;
      for (const [each, count] of rows) {
        const label = `${column} ${value(each)}: ${count}; Enter filters, Shift+Enter excludes`;
        const button = make("button", undefined, { "aria-label": label, class: "pick" });
        const name = `Exclude ${column} ${value(each)}`;
        const not = make("button", "≠", { "aria-label": name, title: name, class: "not" });
        for (const { dataset } of [button, not]) {
          dataset.column = each === "" ? column + EMPTY : column;
          dataset.value = each === null ? "" : String(each);
        }
        const bar = document.createElementNS(SVG, "svg");
        bar.setAttribute("viewBox", "0 0 100 12");
        bar.setAttribute("preserveAspectRatio", "none");
        bar.setAttribute("aria-hidden", "true");
        bar.append(makeRect(0, 1, (100 * count) / most, 10, "allowed"));
        button.append(make("span", value(each), { class: "value", title: value(each) }), bar);
        button.append(make("span", count.toLocaleString("en"), { class: "count" }));
        const item = make("li");
        item.append(button, not);
        list.append(item);
      }
      panel.append(list);
      return panel;
    }),
  );
  refocus(byId("panels"), last);
}

function drawPlaces(answer) {
  const shown = state().filter(([name]) => name === "geo").map(([, text]) => text);
  const had = byId("geo").contains(document.activeElement);
  byId("geo").replaceChildren(
    ...answer.places
      .filter((place) => !shown.includes(place))
      .map((place) => make("button", `Count by ${place} of sources`, { "data-place": place })),
  );
  if (had) (byId("geo").querySelector("button") || byId("count")).focus({ preventScroll: true });
}

function drawRecords(answer) {
  const table = byId("records");
  table.caption.textContent = `The first ${answer.records.length} of ${answer.count.toLocaleString("en")} records`;
  const head = make("tr");
  head.append(...answer.columns.map((name) => make("th", name === "sec" ? "time (UTC)" : name, { scope: "col" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(
    ...answer.records.map((record) => {
      const row = make("tr");
      row.append(
        ...record.map((each, at) =>
          make("td", each === null ? "" : answer.columns[at] === "sec" ? when(each) : String(each)),
        ),
      );
      return row;
    }),
  );
  byId("sql").textContent = answer.sql;
  byId("copied").textContent = "";
}

let asked = 0;
let asking = new AbortController();
async function draw() {
  const number = ++asked;
  // Who waits for a turn is not answered any more.
  asking.abort();
  asking = new AbortController();
  const query = new URLSearchParams(state()).toString();
  drawFilters();
  drawRange();
  byId("csv").href = `records.csv?${query}`;
  byId("parquet").href = `records.parquet?${query}`;
  document.body.setAttribute("aria-busy", "true");
  let answer;
  try {
    const reply = await fetch(`answer?${query}`, { signal: asking.signal });
    answer = await reply.json();
  } catch (error) {
    answer = { problem: `nflowlevel explore does not answer: is it still running? (${error.message})` };
  }
  if (number !== asked) return;
  document.body.setAttribute("aria-busy", "false");
  byId("problem").hidden = !answer.problem;
  byId("problem").textContent = answer.problem || "";
  if (answer.problem) return;
  byId("count").textContent = `${answer.count.toLocaleString("en")} ${answer.count === 1 ? "packet" : "packets"}`;
  byId("spent").textContent = `${answer.milliseconds} ms${answer.note ? `: ${answer.note}` : ""}`;
  drawTime(answer);
  drawPlaces(answer);
  drawPanels(answer);
  drawRecords(answer);
  document.body.dataset.drawn = query;
}

function choose(button, exclude) {
  const name = (exclude ? "!" : "") + button.dataset.column;
  const pair = [name, button.dataset.value];
  if (!state().some(([each, text]) => each === pair[0] && text === pair[1])) go([...state(), pair]);
}

const excludes = (button, event) => event.shiftKey || button.className === "not";
byId("panels").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(button, excludes(button, event));
});
byId("panels").addEventListener("keydown", (event) => {
  const button = event.target.closest("button");
  if (button && event.key === "Enter") {
    event.preventDefault();
    choose(button, excludes(button, event));
  }
});

function range(from, to) {
  const bounds = [];
  if (from !== null) bounds.push(["from", String(from)]);
  if (to !== null) bounds.push(["to", String(to)]);
  go([...without(state(), "from", "to"), ...bounds]);
}

let drag = null;
const place = (event) => {
  const box = byId("time").getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
};
byId("time").addEventListener("pointerdown", (event) => {
  if (!shown) return;
  drag = { start: place(event), rect: makeRect(0, 0, 0, 120, "chosen") };
  byId("time").append(drag.rect);
  byId("time").setPointerCapture(event.pointerId);
});
byId("time").addEventListener("pointermove", (event) => {
  if (!drag) return;
  const here = place(event);
  drag.rect.setAttribute("x", 1000 * Math.min(here, drag.start));
  drag.rect.setAttribute("width", 1000 * Math.abs(here - drag.start));
});
byId("time").addEventListener("pointerup", (event) => {
  if (!drag) return;
  const [left, right] = [drag.start, place(event)].sort((one, other) => one - other);
  drag.rect.remove();
  drag = null;
  if (right - left < 0.005) return;
  const span = shown.end - shown.first;
  range(Math.floor(shown.first + left * span), Math.ceil(shown.first + right * span));
});

byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("sql").textContent);
    byId("copied").textContent = "copied";
  } catch {
    // Not allowed here: it is one key away.
    getSelection().selectAllChildren(byId("sql"));
    byId("copied").textContent = "selected: press Ctrl+C";
  }
});
byId("ranges").addEventListener("click", async (event) => {
  const secs = event.target.dataset.secs;
  if (secs === undefined) return;
  if (secs === "0") {
    range(null, null);
    return;
  }
  const newest = (await (await fetch("newest")).json()).newest;
  if (newest !== null) range(newest + 1 - Number(secs), newest + 1);
});
byId("geo").addEventListener("click", (event) => {
  const place = event.target.dataset.place;
  if (place) go([...state(), ["geo", place]]);
});
byId("range").addEventListener("submit", (event) => {
  event.preventDefault();
  const secs = (id) => (byId(id).value ? Math.floor(Date.parse(`${byId(id).value}Z`) / 1000) : null);
  range(secs("from"), secs("to"));
});
byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (text) go([...state(), ["where", text]]);
  byId("text").value = "";
});

window.addEventListener("hashchange", draw);
draw();
