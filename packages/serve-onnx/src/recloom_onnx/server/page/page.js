// The page at /: a history by title, recommendations beside it, two models side by side.
// Titles are untrusted text: they are set as textContent, never as markup.

import { models, recommend, titles, useToken } from "./ask.js";

const HOUR = 3600;
const WAIT = 120; // ms of quiet typing before titles are asked for
const at = (id) => document.getElementById(id);
const state = { models: [], chosen: [], shown: [], offered: [], marked: -1 };
let typing, searching, asking;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const name = (item) => item.title ?? item.id;
const key = (model) => `${model.name} ${model.version}`;

function complain(error) {
  if (error?.name === "AbortError") return;
  at("login").hidden = error?.status !== 401;
  at("notice").hidden = !error || error.status === 401;
  at("notice").textContent = error?.message ?? "";
}

// What is served

async function start() {
  try {
    state.models = await models();
  } catch (error) {
    at("served").textContent = "Nothing is known of the models yet.";
    complain(error);
    return;
  }
  complain(null);
  const names = state.models.map((one) => {
    const kind = one.model === one.name ? "" : `${one.model}, `;
    return `${one.name} (${kind}${one.num_items.toLocaleString()} items)`;
  });
  at("served").textContent = `Serving ${names.join(" and ")}.`;
  if (!state.shown.length) state.shown = [state.models[0]];
  columns();
  await refresh();
}

// Columns, one for each model that is shown

function columns() {
  const fresh = state.shown.map((model, place) => {
    const column = at("column").content.firstElementChild.cloneNode(true);
    const choice = column.querySelector(".model");
    const several = new Set(state.models.map((one) => one.name)).size < state.models.length;
    for (const one of state.models) {
      choice.append(new Option(several ? `${one.name}, version ${one.version}` : one.name, key(one), false, one === model));
    }
    choice.addEventListener("change", () => {
      state.shown[place] = state.models[choice.selectedIndex];
      refresh();
    });
    const toggle = column.querySelector(".toggle");
    toggle.hidden = state.models.length < 2 || (place === 0 && state.shown.length > 1);
    toggle.textContent = place ? "Close" : "Compare two models";
    toggle.addEventListener("click", () => {
      const other = state.models.find((one) => one !== model);
      state.shown = place ? [state.shown[0]] : [model, other];
      columns();
      refresh();
    });
    return column;
  });
  at("answers").replaceChildren(...fresh);
}

// Recommendations

function question(model) {
  const asked = {
    history: state.chosen.map((item) => item.id),
    k: Number(at("count").value),
    model: model.name,
    version: model.version,
  };
  const now = Math.floor(Date.now() / 1000);
  if (model.reads.includes("user") && at("user").value) asked.user = at("user").value;
  if (model.reads.includes("history_time")) {
    asked.history_times = asked.history.map((_, place) => now - HOUR * (asked.history.length - place));
  }
  if (model.reads.includes("request_time")) asked.request_time = now;
  return asked;
}

async function refresh() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  history();
  const reads = (field) => state.shown.some((model) => model.reads.includes(field));
  at("user-field").hidden = !reads("user");
  at("times").hidden = !reads("history_time");
  const shown = [...at("answers").children];
  shown.forEach((column) => column.querySelector(".places").classList.add("stale"));
  try {
    const answers = await Promise.all(state.shown.map((model) => recommend(question(model), signal)));
    complain(null);
    const [first, second] = answers.map((answer) => new Set(answer.items.map((item) => item.id)));
    const both = second ? new Set([...first].filter((id) => second.has(id))) : new Set();
    answers.forEach((answer, place) => fill(shown[place], state.shown[place], answer, both, Boolean(second)));
  } catch (error) {
    complain(error);
  }
}

function fill(column, model, answer, both, compared) {
  const known = state.chosen.length - answer.unknown.length;
  const basis = known
    ? `For the ${known === 1 ? "item" : `${known} items`} chosen.`
    : model.reads.includes("user") && at("user").value && !answer.unknown_user ? `For user ${at("user").value}.` : "What is popular: nothing is known yet.";
  const shared = compared ? ` ${both.size} of ${answer.items.length} in both lists.` : "";
  const missing = answer.unknown.length ? ` It does not know ${answer.unknown.length} of the items.` : "";
  const stranger = model.reads.includes("user") && answer.unknown_user ? ` It does not know user ${answer.unknown_user}.` : "";
  column.querySelector(".note").textContent = basis + missing + stranger + shared;
  const scores = answer.items.map((item) => item.score);
  const top = Math.max(...scores);
  const floor = Math.min(0, ...scores);
  const places = answer.items.map((item, rank) => {
    const part = top > floor ? (item.score - floor) / (top - floor) : 1;
    return place(item, rank + 1, part, both.has(item.id));
  });
  const list = column.querySelector(".places");
  list.classList.remove("stale");
  list.replaceChildren(...(places.length ? places : [make("li", "quiet", "Nothing is left to recommend.")]));
}

function place(item, rank, part, shared) {
  const row = make("li", shared ? "shared" : "");
  const title = make("span", "title", name(item));
  title.title = item.id;
  const score = make("span", "score", item.score.toPrecision(3));
  score.title = "score; comparable within this list only";
  const add = make("button", "add", "+");
  add.type = "button";
  add.setAttribute("aria-label", `Add ${name(item)} to the history`);
  add.title = "Add to the history";
  add.addEventListener("click", () => choose(item));
  const bar = make("div", "bar");
  const filled = make("span");
  filled.style.width = `${Math.max(2, 100 * part)}%`;
  bar.append(filled);
  const gap = make("span");
  row.append(make("span", "rank", rank), title, score, add, gap, bar);
  return row;
}

// The history

function choose(item) {
  if (!state.chosen.some((one) => one.id === item.id)) state.chosen.push(item);
  at("search").value = "";
  offer([]);
  refresh();
}

function history() {
  const rows = state.chosen.map((item, place) => {
    const row = make("li");
    const drop = make("button", "", "×");
    drop.type = "button";
    drop.setAttribute("aria-label", `Remove ${name(item)}`);
    drop.addEventListener("click", () => {
      state.chosen.splice(place, 1);
      refresh();
    });
    row.append(make("span", "title", name(item)), drop);
    return row;
  });
  at("chosen").replaceChildren(...rows);
  at("empty").hidden = rows.length > 0;
  at("clear").hidden = rows.length === 0;
}

// Suggestions

function offer(items, none = "") {
  state.offered = items;
  state.marked = items.length ? 0 : -1;
  const rows = items.map((item, place) => {
    const row = make("li");
    row.id = `suggestion-${place}`;
    row.setAttribute("role", "option");
    row.append(make("span", "title", name(item)), make("span", "id", item.title === null ? "" : item.id));
    row.addEventListener("mousedown", (event) => {
      event.preventDefault();
      choose(item);
    });
    return row;
  });
  if (!rows.length && none) rows.push(make("li", "none", none));
  at("suggestions").replaceChildren(...rows);
  at("suggestions").hidden = rows.length === 0;
  at("search").setAttribute("aria-expanded", String(rows.length > 0));
  mark(0);
}

function mark(step) {
  const count = state.offered.length;
  if (count) state.marked = (state.marked + step + count) % count;
  [...at("suggestions").children].forEach((row, place) => {
    if (count) row.setAttribute("aria-selected", String(place === state.marked));
    if (count && place === state.marked && step) row.scrollIntoView({ block: "nearest" });
  });
  if (count) at("search").setAttribute("aria-activedescendant", `suggestion-${state.marked}`);
  else at("search").removeAttribute("aria-activedescendant");
}

async function search() {
  searching?.abort();
  searching = new AbortController();
  const words = at("search").value;
  try {
    const found = await titles(words, state.shown[0], searching.signal);
    const ids = new Set(state.chosen.map((item) => item.id));
    if (document.activeElement === at("search")) {
      offer(found.filter((item) => !ids.has(item.id)), "No title holds this.");
    }
  } catch (error) {
    complain(error);
  }
}

at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, WAIT);
});
at("search").addEventListener("focus", () => state.shown.length && search());
at("search").addEventListener("blur", () => offer([]));
at("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    mark(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && state.marked >= 0) {
    event.preventDefault();
    choose(state.offered[state.marked]);
  } else if (event.key === "Escape") {
    offer([]);
  }
});
at("clear").addEventListener("click", () => {
  state.chosen = [];
  refresh();
});
at("count").addEventListener("change", refresh);
at("user").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, WAIT);
});
at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(at("token").value);
  start();
});
start();
