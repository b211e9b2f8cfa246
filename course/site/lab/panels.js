// What stands around the grid: the loss, the heads, who wrote a logit, why a head looks there.
import { againstMeanKey, allHeads, scoreParts } from "./model.js";
import { bold, find, list, make, nats, percent, share, signed, write } from "./page.js";
import { edgeScores, written } from "./seen.js";

const MOST_LOSS = 8; // the end of the rail, in nats
const HABIT = 0.5; // as in chapter 5: a head has one if most of its attention goes there

/** A rail from 0 to `most` with a dot, a ring and a tick. A value that is null is not shown. */
function paintRail(rail, most, values) {
  for (const [kind, value] of Object.entries(values)) {
    const mark = rail.querySelector(`.${kind}`);
    mark.hidden = value === null;
    mark.style.left = `${Math.min(100, (100 * value) / most).toFixed(1)}%`;
  }
}

export function paintLoss(seen, state) {
  const { loss, cleanLoss, known, right } = seen, there = loss !== null;
  const others = seen.cfg.d_vocab - 1, guessing = Math.log(others);
  write(find("loss-is"), there ? `${nats(loss)} nats` : "–");
  write(find("right"), there ? `${right} of ${known} right` : "no word comes back as before");
  paintRail(find("rail"), MOST_LOSS, { tick: guessing, ring: cleanLoss, dot: loss });
  const now = there ? `loss ${nats(loss)}, with all heads on ${nats(cleanLoss)}, ` : "";
  find("rail").setAttribute("aria-label", `${now}guessing ${nats(guessing)} nats`);
  write(find("guessing"), `guessing: ln ${others}`);
  find("guessing").style.left = `${(100 * guessing) / MOST_LOSS}%`;
  const off = state.off.length ? `Off: ${state.off.join(", ")}. ` : "";
  const frozen = state.freeze.length ? `Frozen: ${state.freeze.join(", ")}. ` : "";
  const before = there ? `With all heads on ${nats(cleanLoss)} (ring).` : "";
  write(find("switched"), off + frozen ? off + frozen + before : "All heads are on.");
  find("all-on").hidden = !(off + frozen);
}

/** A card for each head of a model: its pattern, its habit, its switch. */
export function buildHeads(cfg, onHead, onSwitch) {
  const cards = allHeads(cfg).map((head) => {
    const picture = make("canvas", { "aria-hidden": true });
    const score = make("i"), habit = make("span");
    const choose = make("button", { type: "button" }, picture, bold(head), score, habit);
    choose.addEventListener("click", () => onHead(head));
    const kinds = head.startsWith("0.") ? ["on", "off"] : ["on", "off", "freeze"];
    const radios = kinds.map((kind) => {
      const radio = make("input", { type: "radio", name: `head-${head}`, value: kind });
      radio.addEventListener("change", () => onSwitch(head, kind));
      return radio;
    });
    const labels = radios.map((radio) => make("label", {}, radio, make("span", {}, radio.value)));
    const legend = make("legend", { class: "heard" }, `head ${head}`);
    const node = make("div", {}, choose, make("fieldset", {}, legend, ...labels));
    return { head, node, choose, picture, score, habit, radios };
  });
  find("cards").replaceChildren(...cards.map(({ node }) => node));
  find("cards").style.setProperty("--heads", cfg.n_heads);
  return cards;
}

export function paintHeads(cards, seen, state) {
  const root = getComputedStyle(document.documentElement), colour = root.getPropertyValue("--more");
  for (const { head, node, choose, picture, score, habit, radios } of cards) {
    const kind = state.off.includes(head) ? "off" : state.freeze.includes(head) ? "freeze" : "on";
    const found = seen.habits[head], most = Object.keys(found).find((name) => found[name] > HABIT);
    write(habit, most ?? "neither");
    write(score, most ? percent(found[most]) : "");
    node.className = `card ${kind}`;
    choose.setAttribute("aria-pressed", head === state.head);
    for (const radio of radios) radio.checked = radio.value === kind;
    paintPattern(picture, seen.run.patterns[head], seen.tokens.length, colour.split(" "));
  }
}

function paintPattern(canvas, pattern, n, colour) {
  canvas.width = canvas.height = n;
  const image = new ImageData(n, n);
  pattern.forEach((value, i) => {
    const later = i % n > Math.floor(i / n);
    image.data.set([...colour, later ? 0 : 14 + 241 * value], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** What each part writes towards a word: bars about a common zero, rings for all heads on. */
export function paintWho(seen, choice, state) {
  const root = find("bars"), rows = written(seen, choice);
  const ends = rows.flatMap(({ value, ring }) => [value, ring]);
  const low = Math.min(0, ...ends), span = Math.max(0.5, ...ends) - low;
  const place = (value) => `${((100 * (value - low)) / span).toFixed(2)}%`;
  if (root.children.length !== rows.length) root.replaceChildren(...rows.map(buildBar));
  rows.forEach(({ name, value, ring }, i) => {
    const [label, track, number] = root.children[i].children, [bar, mark] = track.children;
    write(label, name);
    write(number, signed(value));
    root.children[i].classList.toggle("total", name === "all");
    track.style.setProperty("--zero", place(0));
    bar.className = value < 0 ? "less" : "more";
    bar.style.left = place(Math.min(0, value));
    bar.style.width = `${((100 * Math.abs(value)) / span).toFixed(2)}%`;
    mark.hidden = !(state.off.length + state.freeze.length);
    mark.style.left = place(ring);
  });
}

function buildBar() {
  const track = make("span", { class: "track" }, make("i"), make("i", { class: "ring" }));
  return make("div", { class: "bar", role: "listitem" }, make("b"), track, make("span"));
}

/** The words whose logit can be asked for. */
export function paintAsked(seen, { row }, state) {
  const select = find("word"), used = seen.tokens.slice(1).map(seen.label);
  const words = [...new Set(state.word ? [...used, state.word] : used)];
  if (select.dataset.words !== `${words}`) {
    const options = words.map((word) => make("option", { value: word }, word));
    select.replaceChildren(make("option", { value: "" }), ...options);
    select.dataset.words = `${words}`;
  }
  write(select.options[0], `its first choice: ${seen.label(seen.guesses[row][0].token)}`);
  select.value = state.word;
}

export function paintSummary(seen, { row, key, pattern }, state) {
  const word = (token) => bold(seen.label(token)), [first, second] = seen.guesses[row];
  const off = state.off.includes(state.head) ? " (off: it writes nothing)" : "";
  const expects = [word(first.token), ` ${percent(first.chance)}, `, word(second.token)];
  write(find("summary"), `At ${row}, after `, word(seen.tokens[row]), ", it expects ", ...expects,
    ` ${percent(second.chance)}. Head ${state.head}${off} gives ${percent(pattern[key])} of its `,
    "attention to ", word(seen.tokens[key]), ` at ${key}.`);
}

/** The strip under the grid: one head's score of each key, by what the keys are made of. */
export function paintWhy(seen, { row, key }, state) {
  const root = find("strip"), n = seen.tokens.length;
  const parts = Object.entries(scoreParts(seen.model, seen.run, state.head, row));
  const rows = parts.map(([name, values]) => [name, againstMeanKey(values)]);
  const most = Math.max(...rows.flatMap(([, values]) => [...values].map(Math.abs)), 1e-9);
  const frozen = state.freeze.includes(state.head) ? " It is frozen: this is not used." : "";
  write(find("why-text"), `Head ${state.head}’s score of each key at row ${row}, by what the key `,
    "is made of. Each part less its mean over the keys, which no softmax can see. The numbers: ",
    bold(seen.label(seen.tokens[key])), ` at ${key}.${frozen}`);
  if (root.children.length !== rows.length) root.replaceChildren(...rows.map(buildStripRow));
  rows.forEach(([name, values], i) => {
    const node = root.children[i], [label, ...rest] = node.children;
    const [track, number] = rest.slice(-2), bar = track.firstChild, part = values[key] / most;
    write(label, /^\d/.test(name) ? `head ${name}` : name);
    write(number, signed(values[key]));
    node.classList.toggle("total", name === "score");
    rest.slice(0, -3).forEach((cell, j) => {
      const value = j <= row ? values[j] / most : 0;
      cell.hidden = j >= n;
      cell.className = `key ${value < 0 ? "less" : "more"} ${j === key ? "chosen" : ""}`;
      share(cell, Math.abs(value));
    });
    bar.className = part < 0 ? "less" : "more";
    bar.style.left = `${50 + 50 * Math.min(0, part)}%`;
    bar.style.width = `${50 * Math.abs(part)}%`;
  });
}

function buildStripRow() {
  const keys = list(find("grid").firstChild.querySelectorAll(".key").length, () => make("i"));
  const track = make("span", { class: "track" }, make("i"));
  const label = make("b", { class: "name" }), number = make("span", { class: "value" });
  return make("div", { class: "row", role: "listitem" }, label, ...keys, make("i"), track, number);
}

/** Two scores of one edge, of which one moves with the basis of the stream. */
export function paintGauge(seen, state, found) {
  find("gauge").hidden = seen.cfg.n_layers < 2;
  if (find("gauge").hidden) return;
  const from = found.previous[0] ?? "0.0";
  const to = state.head.startsWith("1.") ? state.head : found.induction[0] ?? "1.0";
  const { now, before } = edgeScores(seen, from, to);
  write(find("edge"), `How much of what head ${from} writes does head ${to} read in its keys?`);
  write(find("stretch-is"), state.stretch.toFixed(2));
  find("stretch").value = state.stretch;
  const chance = 1 / Math.sqrt(seen.cfg.d_model);
  const rails = { published: [0.4, chance, " of 1"], inTokens: [8, null, " nats"] };
  for (const [name, [most, tick, unit]] of Object.entries(rails)) {
    paintRail(find(name), most, { tick, ring: before[name], dot: now[name] });
    write(find(`${name}-is`), now[name].toFixed(name === "published" ? 3 : 2) + unit);
  }
  write(find("moved"), state.stretch ? seen.moved.toExponential(0) : "0");
}
