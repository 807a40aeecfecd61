"use strict";
// Text from users' files reaches the page by textContent alone.
const get = (id) => document.getElementById(id);
const data = JSON.parse(get("data").textContent);
const state = { set: null, utterance: null, filter: "all", selection: null };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function toggles(list, names, swatch, changed) {
  list.replaceChildren(...names.map((name, place) => {
    const button = element("button", null, { type: "button", "aria-pressed": "true" });
    button.append(swatch(place), name);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      changed(place, on);
    });
    const item = element("li", null);
    item.append(button);
    return item;
  }));
}

// Tables
function value(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? 1 : -1;
}

function sort(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const rows = [...table.tBodies[0].rows];
  const first = head.classList.contains("figure") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((a, b) => sign * compare(value(a, column), value(b, column)));
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => sort(table, column));
  });
}

// Utterances
const isRight = (utterance) => utterance.label === utterance.predicted;
const inWords = (utterance) => isRight(utterance)
  ? `✓ ${utterance.label}` : `✗ ${utterance.label}, taken for ${utterance.predicted}`;

function drawList() {
  const wanted = { all: () => true, wrong: (each) => !isRight(each), right: isRight }[state.filter];
  const places = [...state.set.utterances.keys()].filter((place) => {
    const each = state.set.utterances[place];
    return each.spectrogram && wanted(each) && (!state.selection || state.selection.has(place));
  });
  get("list").replaceChildren(...places.map((place) => {
    const each = state.set.utterances[place];
    const button = element("button", each.id, { type: "button", "data-place": place });
    button.append(element("small", inWords(each), { class: isRight(each) ? "right" : "wrong" }));
    button.addEventListener("click", () => choose(place, true));
    const item = element("li", null);
    item.append(button);
    return item;
  }));
  get("count").textContent = `${places.length} shown`;
  markCurrent();
}

function markCurrent() {
  for (const button of get("list").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.place) === state.utterance));
  }
}

function choose(place, play) {
  const utterance = state.set.utterances[place];
  if (utterance.clip === null) {
    get("pointed").textContent = `${utterance.id}: ${inWords(utterance)} (its audio is not in this page)`;
    return;
  }
  stopCode();
  get("audio").src = data.audio[utterance.clip];
  if (utterance.spectrogram) {
    state.utterance = place;
    markCurrent();
    show(utterance);
  }
  point(place);
  if (play) get("audio").play();
}

for (const button of document.querySelectorAll("[data-filter]")) {
  button.addEventListener("click", () => {
    state.filter = button.dataset.filter;
    for (const each of document.querySelectorAll("[data-filter]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    drawList();
  });
}

function open(number) {
  state.set = data.sets[number];
  state.selection = null;
  state.utterance = null;
  const right = state.set.utterances.filter(isRight).length;
  const sounding = state.set.utterances.filter((each) => each.clip !== null).length;
  const total = state.set.utterances.length;
  get("about").textContent = `${total} test utterances drawn, seed ${state.set.seed}; the nearest training utterance ` +
    `(${state.set.pooling}, mean over layers) has the same label for ${right} of them. ${sounding} have audio here.`;
  drawMap();
  drawList();
  const first = state.set.utterances.findIndex((each) => each.spectrogram);
  if (first >= 0) choose(first, false);
}

if (data.sets.length) {
  get("set").append(...data.sets.map((set, number) => element("option", set.name, { value: number })));
  get("set").addEventListener("change", () => open(Number(get("set").value)));
  dark.addEventListener("change", () => { drawMap(); redraw(); });
  addEventListener("load", () => open(0));
}
