// The grid: a row for each word, a column for each key; arcs, attention and guesses share the rows.
import { make, write } from "./page.js";

const GUESSES = 3;

/** Build it once, for `size` words; afterwards it is only patched. chosen(fields) is called with
 *  what the reader chose, pointed(fields) with what the mouse is over, or null. */
export function buildGrid(root, arcs, size, chosen, pointed) {
  const header = make("div", { role: "row", class: "row head" });
  header.append(make("span", { role: "columnheader", class: "name" }, "reads ↓ looks at →"));
  const columns = Array.from({ length: size }, () => make("span", { role: "columnheader", class: "key" }));
  const titles = ["next is, in %", "or", "or"].map((text) =>
    make("span", { role: "columnheader", class: "guess" }, text));
  header.append(...columns, make("i", {}), ...titles, make("span", { role: "columnheader", "aria-label": "right?" }));
  root.append(header);
  const rows = Array.from({ length: size }, (_, row) => buildRow(row, size));
  root.append(...rows.map(({ node }) => node));
  const paths = Array.from({ length: size }, () => {
    const path = document.createElementNS(arcs.namespaceURI, "path");
    arcs.append(path);
    return path;
  });
  const grid = { root, arcs, columns, rows, paths, size, row: 0, column: 0 };
  hear(grid, chosen, pointed);
  return grid;
}

function buildRow(row, size) {
  const cell = (column, kind, ...inside) =>
    make("span", { role: "gridcell", class: kind, tabindex: -1, "data-row": row, "data-column": column }, ...inside);
  const word = make("b", {}), name = make("span", { role: "rowheader", class: "name", "data-row": row });
  name.append(make("i", {}, `${row}`), word);
  const keys = Array.from({ length: size }, (_, key) => cell(key, "key"));
  const guesses = Array.from({ length: GUESSES }, (_, i) => cell(size + i, "guess", make("b", {}), make("i", {})));
  const mark = make("span", { role: "gridcell", class: "mark" });
  const node = make("div", { role: "row", class: "row" }, name, ...keys, make("i", {}), ...guesses, mark);
  return { node, name, word, keys, guesses, mark };
}

/** Patch what a new forward pass or another head changes. */
export function paintGrid(grid, seen, head) {
  const n = seen.tokens.length, pattern = seen.run.patterns[head];
  document.documentElement.style.setProperty("--n", n);
  grid.columns.forEach((column, key) => {
    column.hidden = key >= n;
    if (key < n) write(column, seen.label(seen.tokens[key]));
  });
  grid.rows.forEach((row, query) => {
    row.node.hidden = query >= n;
    if (query >= n) return;
    write(row.word, seen.label(seen.tokens[query]));
    row.keys.forEach((cell, key) => {
      cell.hidden = key >= n;
      if (key >= n) return;
      const share = pattern[query * n + key];
      cell.classList.toggle("later", key > query);
      cell.style.setProperty("--share", share.toFixed(3));
      cell.setAttribute("aria-label", key > query ? "later" : `${Math.round(100 * share)} %`);
    });
    paintGuesses(row, seen, query);
  });
}

function paintGuesses(row, seen, query) {
  const next = seen.tokens[query + 1];
  row.guesses.forEach((cell, i) => {
    const { token, chance } = seen.guesses[query][i], [word, share] = cell.children;
    write(word, seen.label(token));
    write(share, chance > 0.0995 ? (100 * chance).toFixed(0) : (100 * chance).toFixed(1));
    cell.style.setProperty("--share", chance.toFixed(3));
    cell.classList.toggle("right", token === next);
    cell.dataset.word = seen.label(token);
  });
  const expected = seen.expected[query], right = seen.guesses[query][0].token === next;
  const signs = { known: right ? "✓" : "✗", surprise: "≠" };
  write(row.mark, signs[expected] ?? "");
  row.mark.className = `mark ${expected ?? ""} ${right ? "" : "wrong"}`;
}

/** Patch which row, which key and which token are looked at. */
export function paintChoice(grid, seen, { row, key, token, pattern }) {
  const n = seen.tokens.length;
  grid.rows[grid.row].keys[grid.column].tabIndex = -1;
  Object.assign(grid, { row, column: key });
  grid.rows[row].keys[key].tabIndex = 0;
  grid.columns.forEach((column, i) => column.classList.toggle("chosen", i === key));
  grid.rows.forEach((each, query) => {
    each.node.classList.toggle("chosen", query === row);
    each.node.setAttribute("aria-selected", query === row);
    const share = query <= row ? pattern[query] : 0;
    each.name.style.setProperty("--share", share.toFixed(3));
    each.name.classList.toggle("chosen", query === key);
    each.keys.forEach((cell, i) => cell.classList.toggle("chosen", query === row && i === key));
    each.guesses.forEach((cell) =>
      cell.classList.toggle("chosen", query === row && cell.dataset.word === seen.label(token)));
  });
  grid.arcs.setAttribute("viewBox", `0 0 10 ${n}`);
  grid.paths.forEach((path, i) => {
    const share = i <= row ? pattern[i] : 0;
    path.toggleAttribute("hidden", share < 0.02);
    const depth = 10 - Math.min(9, 2 + 0.35 * (row - i)), [from, to] = [row + 0.5, i + (i === row ? 0.1 : 0.5)];
    path.setAttribute("d", `M10 ${from}C${depth} ${from} ${depth} ${to} 10 ${to}`);
    path.style.setProperty("--share", share.toFixed(3));
  });
}

/** The cell that the keyboard is on gets the focus, if the grid has it. */
export function keepFocus(grid) {
  if (grid.root.contains(document.activeElement) && !document.activeElement.dataset.word) {
    grid.rows[grid.row].keys[grid.column].focus({ preventScroll: true });
  }
}

function hear(grid, chosen, pointed) {
  const at = (target) => {
    const place = target.closest?.("[data-row]");
    if (!place) return null;
    const row = Number(place.dataset.row), column = Number(place.dataset.column ?? -1);
    return { row, key: column >= 0 && column <= row ? column : null, word: place.dataset.word };
  };
  const { root } = grid;
  root.addEventListener("click", (event) => {
    const found = at(event.target);
    if (found) chosen(found.word ? { row: found.row, word: found.word } : { row: found.row, key: found.key });
  });
  root.addEventListener("pointerover", (event) => {
    if (event.pointerType === "mouse") pointed(at(event.target));
  });
  root.addEventListener("pointerleave", () => pointed(null));
  root.addEventListener("keydown", (event) => move(grid, event, chosen));
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** Arrow keys, Home and End; Enter on a guess asks who wrote it. */
function move(grid, event, chosen) {
  const here = event.target.dataset, row = Number(here.row), column = Number(here.column);
  if (event.key === "Enter" && here.word) return chosen({ row, word: here.word });
  const ends = { Home: 0, End: row }, step = STEPS[event.key];
  if (!step && !(event.key in ends)) return undefined;
  event.preventDefault();
  if (!step) return chosen({ row, key: ends[event.key] });
  const shown = grid.rows.filter(({ node }) => !node.hidden).length;
  const to = Math.max(0, Math.min(shown - 1, row + step[0]));
  if (column >= grid.size) return moveAmongGuesses(grid, to, column + step[1], chosen);
  if (step[1] === 1 && column === row) return moveAmongGuesses(grid, row, grid.size, chosen);
  return chosen({ row: to, key: Math.max(0, Math.min(to, column + step[1])) });
}

function moveAmongGuesses(grid, row, column, chosen) {
  chosen({ row, key: column < grid.size ? row : null });
  const last = grid.size + GUESSES - 1;
  if (column >= grid.size) grid.rows[row].guesses[Math.min(column, last) - grid.size].focus();
}
