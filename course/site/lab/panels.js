// What stands around the grid: the loss, the heads, who wrote a logit, why a head looks there.
import { againstMeanKey, allHeads, rowOf, scoreParts } from "./model.js";
import { bold, find, make, percent, short, signed, write } from "./page.js";
import { edgeScores, written } from "./seen.js";

const MOST_LOSS = 8; // the end of the rail, in nats
const ROLE = 0.5; // as in chapter 5: a head has a habit if most of its attention goes there

export function paintLoss(seen, state) {
  const { loss, cleanLoss } = seen, there = loss !== null, guessing = Math.log(seen.cfg.d_vocab - 1);
  const place = (value) => `${Math.min(100, (100 * value) / MOST_LOSS).toFixed(1)}%`;
  write(find("loss-is"), there ? `${short(loss)} nats` : "no such word");
  write(find("right"), there ? `${seen.right} of ${seen.known} right` : "here");
  const [tick, ring, dot] = find("rail").children;
  tick.style.left = place(guessing);
  ring.style.left = place(cleanLoss ?? 0);
  dot.style.left = place(loss ?? 0);
  find("rail").classList.toggle("empty", !there);
  write(find("guessing"), `guessing: ln ${seen.cfg.d_vocab - 1}`);
  find("guessing").style.left = place(guessing);
  const label = there ? `Loss ${short(loss)} of ${MOST_LOSS}; all heads on: ${short(cleanLoss)}; ` : "";
  find("rail").setAttribute("aria-label", `${label}guessing costs ${short(guessing)}`);
  const parts = [["Off", state.off], ["Frozen", state.freeze]].filter(([, heads]) => heads.length);
  const told = parts.map(([what, heads]) => `${what}: ${heads.join(", ")}. `).join("");
  const ring_ = there ? `With all heads on: ${short(cleanLoss)} (the ring).` : "";
  write(find("switched").firstElementChild, told ? told + ring_ : "All heads are on.");
  find("all-on").hidden = !told;
}

/** A card for each head of a model: its pattern, its habit, its switch. */
export function buildHeads(cfg, onHead, onSwitch) {
  const cards = allHeads(cfg).map((head) => {
    const picture = make("canvas", { "aria-hidden": true });
    const score = make("i", {}), habit = make("span", {});
    const choose = make("button", { type: "button", "aria-pressed": false }, picture, bold(head), score, habit);
    choose.addEventListener("click", () => onHead(head));
    const set = make("fieldset", {}, make("legend", { class: "heard" }, `head ${head}`));
    const kinds = head.startsWith("0.") ? ["on", "off"] : ["on", "off", "freeze"];
    for (const kind of kinds) {
      const radio = make("input", { type: "radio", name: `head-${head}`, value: kind });
      radio.addEventListener("change", () => onSwitch(head, kind));
      set.append(make("label", {}, radio, make("span", {}, kind)));
    }
    const node = make("div", { class: "card", "data-head": head }, choose, set);
    return { head, node, choose, picture, score, habit, set };
  });
  find("cards").replaceChildren(...cards.map(({ node }) => node));
  find("cards").style.setProperty("--heads", cfg.n_heads);
  return cards;
}

export function paintHeads(cards, seen, state) {
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--more").split(" ");
  for (const { head, node, choose, picture, score, habit, set } of cards) {
    const { previous, induction } = seen.habits[head];
    const kind = state.off.includes(head) ? "off" : state.freeze.includes(head) ? "freeze" : "on";
    const found = { "word before": previous, induction };
    const best = Object.keys(found).find((name) => found[name] > ROLE);
    write(habit, best ?? "neither");
    write(score, best ? percent(found[best]) : "");
    node.className = `card ${kind}`;
    choose.setAttribute("aria-pressed", head === state.head);
    set.querySelector(`[value=${kind}]`).checked = true;
    paintPattern(picture, seen.run.patterns[head], seen.tokens.length, colour);
  }
}

function paintPattern(canvas, pattern, n, colour) {
  canvas.width = canvas.height = n;
  const image = new ImageData(n, n);
  pattern.forEach((share, i) => {
    const visible = i % n <= Math.floor(i / n);
    image.data.set([...colour, visible ? 12 + 243 * share : 0], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Bars about a common zero: rows of {name, value, ring, total}. */
export function paintBars(root, rows) {
  const ends = rows.flatMap(({ value, ring }) => [value, ring ?? value]);
  const low = Math.min(0, ...ends), span = Math.max(0.5, ...ends) - low;
  const place = (value) => `${((100 * (value - low)) / span).toFixed(2)}%`;
  if (root.children.length !== rows.length) root.replaceChildren(...rows.map(buildBar));
  rows.forEach(({ name, value, ring, total }, i) => {
    const node = root.children[i], [label, track, number] = node.children;
    const [bar, mark] = track.children;
    write(label, name);
    write(number, signed(value));
    node.classList.toggle("total", Boolean(total));
    track.style.setProperty("--zero", place(0));
    bar.className = value < 0 ? "less" : "more";
    bar.style.left = place(Math.min(0, value));
    bar.style.width = `${((100 * Math.abs(value)) / span).toFixed(2)}%`;
    mark.hidden = ring === undefined || Math.abs(ring - value) < 0.005;
    if (!mark.hidden) mark.style.left = place(ring);
  });
}

function buildBar() {
  const track = make("span", { class: "track" }, make("i", {}), make("i", { class: "ring" }));
  return make("div", { class: "bar", role: "listitem" }, make("b", {}), track, make("span", {}));
}

export function paintWho(seen, choice, state) {
  const select = find("word"), used = [...new Set(seen.tokens.slice(1))].map(seen.label);
  const words = [...new Set([...(state.word ? [state.word] : []), ...used])];
  const first = `its first choice: ${seen.label(seen.guesses[choice.row][0].token)}`;
  if (select.dataset.words !== `${words}`) {
    select.replaceChildren(make("option", { value: "" }), ...words.map((word) => make("option", { value: word }, word)));
    select.dataset.words = `${words}`;
  }
  write(select.options[0], first);
  select.value = state.word;
  paintBars(document.querySelector("#who .bars"), written(seen, choice));
}

export function paintSummary(seen, { row, key, pattern }, state) {
  const word = (token) => bold(seen.label(token)), [first, second] = seen.guesses[row];
  const kind = state.off.includes(state.head) ? " (off: it writes nothing)" : "";
  write(find("summary"), `At ${row}, after `, word(seen.tokens[row]), ", it expects ", word(first.token),
    ` ${percent(first.chance)}, `, word(second.token), ` ${percent(second.chance)}. Head ${state.head}${kind} gives `,
    `${percent(pattern[key])} of its attention to `, word(seen.tokens[key]), ` at ${key}.`);
}

/** The strip under the grid: one head's score of each key, by what the keys are made of. */
export function paintWhy(seen, { row, key }, state) {
  const root = find("strip"), n = seen.tokens.length;
  const parts = scoreParts(seen.model, seen.run, state.head, row);
  const rows = Object.entries(parts).map(([name, values]) => [name, againstMeanKey(values)]);
  const most = Math.max(...rows.flatMap(([, values]) => [...values].map(Math.abs)), 1e-9);
  const frozen = state.freeze.includes(state.head) ? " It is frozen: this is not used." : "";
  write(find("why-text"), `Head ${state.head}’s score of each key at row ${row}, split by what the key is made of. `,
    `Each part less its mean over the keys, which the softmax cannot see. Numbers: `,
    bold(seen.label(seen.tokens[key])), ` at ${key}.${frozen}`);
  if (root.children.length !== rows.length) root.replaceChildren(...rows.map(buildStripRow));
  rows.forEach(([name, values], i) => {
    const node = root.children[i], label = node.firstChild, track = node.querySelector(".track");
    write(label, name === "score" ? "score" : /^\d/.test(name) ? `head ${name}` : name);
    node.classList.toggle("total", name === "score");
    [...node.querySelectorAll(".key")].forEach((cell, j) => {
      cell.hidden = j >= n;
      const share = j <= row ? values[j] / most : 0;
      cell.className = `key ${share < 0 ? "less" : "more"} ${j > row ? "later" : ""} ${j === key ? "chosen" : ""}`;
      cell.style.setProperty("--share", Math.abs(share).toFixed(3));
    });
    const bar = track.firstChild, share = values[key] / most;
    bar.className = share < 0 ? "less" : "more";
    bar.style.left = `${50 + 50 * Math.min(0, share)}%`;
    bar.style.width = `${50 * Math.abs(share)}%`;
    write(node.lastChild, signed(values[key]));
  });
}

function buildStripRow() {
  const keys = Array.from({ length: find("grid").querySelectorAll(".head .key").length }, () =>
    make("i", { class: "key", "aria-hidden": true }));
  const track = make("span", { class: "track" }, make("i", {}));
  return make("div", { class: "row", role: "listitem" }, make("b", { class: "name" }), ...keys, make("i", {}),
    track, make("span", { class: "value" }));
}

/** Two scores of one edge, and whether anybody could notice the stretch. */
export function paintGauge(seen, state, found) {
  find("gauge").hidden = seen.cfg.n_layers < 2;
  if (find("gauge").hidden) return;
  const from = found.previous[0] ?? "0.0";
  const to = state.head.startsWith("1.") ? state.head : found.induction[0] ?? "1.0";
  const { published, inTokens } = edgeScores(seen, from, to);
  write(find("stretch-is"), state.stretch.toFixed(2));
  find("stretch").value = state.stretch;
  const chance = (1 / Math.sqrt(seen.cfg.d_model)).toFixed(3);
  const lines = [
    [`does ${to} read ${from} in its keys? published score`, `${published.toFixed(3)} (chance ${chance})`],
    ["the same edge in token space", `${inTokens.toFixed(2)} nats`],
    ["largest change of a logit", state.stretch ? seen.moved.toExponential(0) : "0"],
  ];
  const scores = find("scores");
  if (!scores.children.length) scores.append(...lines.flatMap(() => [make("dt", {}), make("dd", {})]));
  lines.forEach(([name, value], i) => {
    write(scores.children[2 * i], name);
    write(scores.children[2 * i + 1], value);
  });
}
