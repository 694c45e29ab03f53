// Sort tables, filter by optimizer and task, show the runs behind a cell, switch between light and dark.

const content = JSON.parse(document.querySelector('script[type="application/json"]').textContent);
const bar = document.querySelector(".bar");
const chosen = { task: "", optimizers: new Set(content.optimizers) };
const isShown = (item) =>
  (!item.task || !chosen.task || item.task === chosen.task) && (!item.optim || chosen.optimizers.has(item.optim));

const figures = [...document.querySelectorAll("main figure")].map((figure) => {
  const block = content.blocks[figure.id];
  const chart = block.kind === "curves" ? new Chart(block, figure, isShown, content.optimizers) : null;
  const rows = block.kind === "table" ? [...figure.querySelectorAll("tbody tr")] : [];
  const panels = block.kind === "heatmaps" ? [...figure.querySelectorAll(".panel")] : [];
  return { figure, block, chart, rows, panels };
});

// Sorting: by a click ascending, then descending, then as given. Missing values stay last.
const collator = new Intl.Collator("en", { numeric: true });

/** What a cell is sorted by: a number, a text, or null where it is missing. */
function sortKey(cell, column) {
  if (column.kind === "number") return cell.sort;
  return cell.sort ?? (cell.text || null);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
}

function sortBy({ figure, block, rows }, place) {
  const headers = [...figure.querySelectorAll("thead th")], header = headers[place];
  const next = { none: "ascending", ascending: "descending", descending: "none" }[header.ariaSort];
  headers.forEach((other) => other.setAttribute("aria-sort", other === header ? next : "none"));
  const keys = block.rows.map((row) => sortKey(row.cells[place], block.columns[place]));
  const order = rows.map((_, index) => index);
  const sign = next === "descending" ? -1 : 1;
  if (next !== "none") {
    order.sort((a, b) => (keys[a] === null) - (keys[b] === null) || (keys[a] === null ? 0 : sign * compare(keys[a], keys[b])));
  }
  figure.querySelector("tbody").append(...order.map((index) => rows[index]));
}

for (const entry of figures.filter(({ block }) => block.kind === "table")) {
  const headers = [...entry.figure.querySelectorAll("thead th")];
  headers.forEach((header, place) => header.querySelector("button").addEventListener("click", () => sortBy(entry, place)));
}

// The runs behind a cell
const popover = document.querySelector("[popover]");

function showRuns({ figure, block, rows }, button) {
  const row = button.closest("tr"), place = [...row.cells].indexOf(button.closest("td"));
  const { cells } = block.rows[rows.indexOf(row)], cell = cells[place];
  const count = `${cell.runs.length} run${cell.runs.length === 1 ? "" : "s"}`;
  const name = place === 0 ? cells[0].text : `${cells[0].text}, ${block.columns[place].name}`;
  popover.replaceChildren(html("p", "", html("strong", "", name), `: ${count}`));
  if (cell.title) popover.append(html("p", "", cell.title));
  const command = (run) => (content.commands[run] ? [html("code", "", content.commands[run])] : []);
  popover.append(html("ul", "", ...cell.runs.map((run) => html("li", "", run, ...command(run)))));
  popover.hidePopover();
  popover.showPopover({ source: button });
  const at = button.getBoundingClientRect(), room = document.documentElement.clientWidth - popover.offsetWidth - 16;
  const below = at.bottom + 6 + popover.offsetHeight <= innerHeight;
  popover.style.left = `${Math.max(16, Math.min(at.left, room)) + scrollX}px`;
  popover.style.top = `${(below ? at.bottom + 6 : Math.max(at.top - 6 - popover.offsetHeight, 0)) + scrollY}px`;
}

document.querySelector("main").addEventListener("click", (event) => {
  const button = event.target.closest(".table td button");
  if (button) showRuns(figures.find(({ figure }) => figure.contains(button)), button);
});

// All columns of a table, or those that matter
for (const button of document.querySelectorAll(".more button")) {
  const words = button.textContent;
  button.addEventListener("click", () => {
    const all = button.closest("figure").classList.toggle("all");
    button.setAttribute("aria-expanded", all);
    button.textContent = all ? "Fewer columns" : words;
  });
}

// Claims by verdict: all, until one is chosen
for (const figure of document.querySelectorAll("figure.verdicts")) {
  const buttons = [...figure.querySelectorAll(".counts button")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    const verdict = button.getAttribute("aria-pressed") === "true" ? "" : button.value;
    buttons.forEach((other) => other.setAttribute("aria-pressed", other.value === verdict));
    for (const row of figure.querySelectorAll("tbody tr")) row.hidden = verdict !== "" && row.dataset.verdict !== verdict;
  }));
}

// Folds: a link to what lies in one opens it, the button opens all, and paper shows all
const folds = [...document.querySelectorAll("details.fold")];
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
document.addEventListener("click", (event) => {
  if (event.target.closest("a")?.hash === location.hash && location.hash) openTarget();
});
const unfold = bar.querySelector(".unfold");
unfold.hidden = folds.length === 0;
unfold.addEventListener("click", () => {
  const open = unfold.textContent === "Open all";
  folds.forEach((fold) => { fold.open = open; });
  unfold.textContent = open ? "Close all" : "Open all";
});
let closed = [];
addEventListener("beforeprint", () => {
  closed = folds.filter((fold) => !fold.open);
  closed.forEach((fold) => { fold.open = true; });
  figures.forEach(({ chart }) => chart?.fit());
});
addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));

// The filter
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link.parentElement]));

function applyFilter() {
  let shown = 0, total = 0;
  for (const part of document.querySelectorAll("[data-task]")) part.hidden = !isShown({ task: part.dataset.task });
  for (const { figure, block, chart, rows, panels } of figures) {
    if (block.kind === "verdicts" || block.kind === "list") continue;
    const items = block.rows ?? block.panels ?? block.views.flatMap((view) => view.series);
    figure.hidden = items.length > 0 && !items.some(isShown);
    rows.forEach((row, place) => { row.hidden = !isShown(block.rows[place]); });
    panels.forEach((panel, place) => { panel.hidden = !isShown(block.panels[place]); });
    if (chart) chart.draw();
    shown += rows.filter((row) => !row.hidden).length;
    total += rows.length;
  }
  for (const section of document.querySelectorAll("main > section")) {
    const inside = figures.filter(({ figure }) => section.contains(figure));
    section.hidden = inside.length > 0 && inside.every(({ figure }) => figure.hidden || figure.closest("details[hidden]"));
    links.get(section.id).hidden = section.hidden;
  }
  bar.querySelector("output").textContent = shown === total ? "" : `${shown} of ${total} rows`;
}

bar.addEventListener("change", () => {
  chosen.task = bar.querySelector("select")?.value ?? "";
  chosen.optimizers = new Set([...bar.querySelectorAll("input:checked")].map((box) => box.value));
  applyFilter();
});
for (const button of bar.querySelectorAll("button[value]")) {
  button.addEventListener("click", () => {
    bar.querySelectorAll("input").forEach((box) => { box.checked = button.value === "all"; });
    bar.dispatchEvent(new Event("change"));
  });
}

// Light and dark: the system's scheme until the reader chooses
const theme = bar.querySelector(".theme"), system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* not kept, then */ }
  nameTheme();
});
system.addEventListener("change", nameTheme);
nameTheme();

// Links to a section leave room for the bar above.
const measureBar = () => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
measureBar();
new ResizeObserver(measureBar).observe(bar);
openTarget();
