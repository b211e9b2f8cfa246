// The grid: a row for each word, a column for each key; arcs, attention and guesses share the rows.
import { hundredths, list, make, share, write } from "./page.js";

const GUESSES = ["next, in %", "or", "or"];
const MARKS = {
  known: { true: ["✓", "right"], false: ["✗", "wrong"] },
  surprise: { true: ["≠", "goes on anew"], false: ["≠", "goes on anew"] },
};

/** Build it once, for `size` words; afterwards it is only patched. chosen(fields) is called with
 *  what the reader chose, pointed(place) with what the mouse is over, or null. */
export function buildGrid(root, arcs, size, chosen, pointed) {
  const title = (kind, ...inside) => make("span", { role: "columnheader", class: kind }, ...inside);
  const columns = list(size, () => title("key")), header = make("div", { role: "row" });
  header.className = "row head";
  const guesses = GUESSES.map((text) => title("guess", text));
  header.append(title("name", "reads"), ...columns, gap(), ...guesses, title("mark"));
  const rows = list(size, (row) => buildRow(row, size));
  root.append(header, ...rows.map(({ node }) => node));
  const paths = list(size, () => document.createElementNS(arcs.namespaceURI, "path"));
  arcs.append(...paths);
  const grid = { root, arcs, columns, rows, paths, size, row: 0, key: 0 };
  listenToGrid(grid, chosen, pointed);
  return grid;
}

const gap = () => make("i", { "aria-hidden": true });

function buildRow(row, size) {
  const cell = (column, kind, ...inside) => {
    const place = { "data-row": row, "data-column": column, tabindex: -1 };
    return make("span", { role: "gridcell", class: kind, ...place }, ...inside);
  };
  const word = make("b"), number = make("i", {}, `${row}`);
  const name = make("span", { role: "rowheader", class: "name", "data-row": row }, number, word);
  const keys = list(size, (key) => cell(key, "key"));
  const guesses = list(GUESSES.length, (i) => cell(size + i, "guess", make("b"), make("i")));
  const mark = make("span", { role: "gridcell", class: "mark" });
  const node = make("div", { role: "row", class: "row" }, name, ...keys, gap(), ...guesses, mark);
  return { node, name, word, keys, guesses, mark };
}

/** Patch what a new forward pass or another head changes. */
export function paintGrid(grid, seen, head) {
  const n = seen.tokens.length, pattern = seen.run.patterns[head];
  document.documentElement.style.setProperty("--n", n);
  grid.columns.forEach((column, key) => {
    column.hidden = key >= n;
    write(column, key < n ? seen.label(seen.tokens[key]) : "");
  });
  grid.rows.forEach((row, query) => {
    row.node.hidden = query >= n;
    if (query >= n) return;
    write(row.word, seen.label(seen.tokens[query]));
    row.keys.forEach((cell, key) => {
      const value = key < n ? pattern[query * n + key] : 0;
      cell.hidden = key >= n;
      cell.classList.toggle("later", key > query);
      cell.setAttribute("aria-label", key > query ? "later" : `${hundredths(value)} %`);
      share(cell, value);
    });
    paintGuesses(row, seen, query);
  });
}

function paintGuesses(row, seen, query) {
  const next = seen.tokens[query + 1], expected = seen.expected[query];
  row.guesses.forEach((cell, i) => {
    const { token, chance } = seen.guesses[query][i];
    write(cell.firstChild, seen.label(token));
    write(cell.lastChild, hundredths(chance));
    cell.classList.toggle("right", token === next);
    cell.dataset.word = seen.label(token);
    share(cell, chance);
  });
  const right = seen.guesses[query][0].token === next;
  const [sign, said] = MARKS[expected]?.[right] ?? ["", ""];
  write(row.mark, sign);
  row.mark.className = `mark ${sign === "✓" ? "" : "wrong"}`;
  row.mark.setAttribute("aria-label", said);
}

/** Patch which row, which key and which token are looked at. */
export function paintChoice(grid, seen, { row, key, token, pattern }) {
  grid.rows[grid.row].keys[grid.key].tabIndex = -1; // one cell alone is reached by Tab
  grid.rows[row].keys[key].tabIndex = 0;
  Object.assign(grid, { row, key });
  const asked = seen.label(token);
  grid.columns.forEach((column, i) => column.classList.toggle("chosen", i === key));
  grid.rows.forEach((each, query) => {
    const here = query === row;
    each.node.classList.toggle("chosen", here);
    each.node.setAttribute("aria-selected", here);
    each.name.classList.toggle("chosen", query === key);
    share(each.name, query <= row ? pattern[query] : 0);
    each.keys.forEach((cell, i) => cell.classList.toggle("chosen", here && i === key));
    for (const cell of each.guesses) {
      cell.classList.toggle("chosen", here && cell.dataset.word === asked);
    }
  });
  grid.arcs.dataset.rows = seen.tokens.length;
  grid.arcs.setAttribute("viewBox", `0 0 10 ${seen.tokens.length}`);
  grid.paths.forEach((path, i) => paintArc(path, row, i, i <= row ? pattern[i] : 0));
}

/** From the row that looks to the one that is looked at; the further, the deeper. */
function paintArc(path, row, key, attention) {
  const depth = 9 - Math.min(9, 1 + 0.4 * (row - key)), from = row + 0.5;
  const to = key === row ? key + 0.1 : key + 0.5;
  path.setAttribute("d", `M10 ${from}C${depth} ${from} ${depth} ${to} 10 ${to}`);
  path.style.visibility = attention < 0.02 ? "hidden" : "visible";
  share(path, attention);
}

/** The cell that is looked at has the focus, if any cell of a key had it. */
export function keepFocus(grid) {
  const { dataset } = document.activeElement;
  if (!grid.root.contains(document.activeElement) || dataset.word) return;
  grid.rows[grid.row].keys[grid.key].focus({ preventScroll: true });
}

function listenToGrid(grid, chosen, pointed) {
  const placeOf = (target) => {
    const { row, column, word } = target.closest("[data-row]")?.dataset ?? {};
    if (row === undefined) return null;
    const key = column !== undefined && Number(column) <= Number(row) ? Number(column) : null;
    return word ? { row: Number(row), word } : { row: Number(row), key };
  };
  grid.root.addEventListener("click", ({ target }) => {
    const place = placeOf(target);
    if (place) chosen(place);
  });
  grid.root.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pointerType === "mouse") pointed(placeOf(target));
  });
  grid.root.addEventListener("pointerleave", () => pointed(null));
  grid.root.addEventListener("keydown", (event) => pressed(grid, event, chosen));
}

/** Arrow keys, Home and End move along the keys and guesses; Enter on a guess asks who wrote it. */
function pressed(grid, event, chosen) {
  const row = Number(event.target.dataset.row), { word } = event.target.dataset;
  const stops = [...grid.rows[row].keys.slice(0, row + 1), ...grid.rows[row].guesses];
  const at = stops.indexOf(event.target), lowest = Number(grid.arcs.dataset.rows) - 1;
  const along = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: row }[event.key];
  const down = { ArrowUp: row - 1, ArrowDown: row + 1 }[event.key];
  if (event.key === "Enter" && word) chosen({ row, word });
  if (along === undefined && down === undefined) return;
  event.preventDefault();
  if (along !== undefined) {
    const to = Math.max(0, Math.min(stops.length - 1, along));
    stops[to].focus();
    if (to <= row) chosen({ row, key: to });
  } else {
    const to = Math.max(0, Math.min(lowest, down));
    if (word) grid.rows[to].guesses[at - row - 1].focus();
    chosen({ row: to });
  }
}
