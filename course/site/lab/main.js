// The page: a state, what it shows, and what the reader does to it.
import { attribution, losses, runBoth, scoreParts, unpack } from "./model.js";
import { compositionScore, stretched, tokenSpaceComposition } from "./gauge.js";
import { expectations, habits } from "./words.js";
import { MOST_DEALS, begin, fitting, fromFragment, toFragment } from "./state.js";
import { choose, differenceFromPyTorch, see } from "./seen.js";
import { find, make, nats, write } from "./page.js";
import { buildGrid, keepFocus, paintChoice, paintGrid } from "./grid.js";
import { buildHeads, paintGauge, paintHeads, paintLoss } from "./panels.js";
import { paintAsked, paintSummary, paintWho, paintWhy } from "./panels.js";

const NEW_PASS = ["model", "text", "period", "deal", "off", "freeze", "stretch"];
const SILENCE = 700; // ms until a change is announced: a screen reader need not hear each key
const REST = 200; // ms until the address follows: browsers refuse to change it many times a second
const CLOSE = 2e-5; // to PyTorch's logits
const { models, experiments, size } = JSON.parse(find("payload").textContent);
for (const entry of Object.values(models)) entry.model = unpack(entry.cfg, entry.weights);
const grid = buildGrid(find("grid"), find("arcs"), size, change, point);
let state, seen, cards, over = null, notes = [], speech, writing;

/** Something was chosen: a new forward pass if it needs one, and patches where it shows. */
function change(fields, said = []) {
  const before = state;
  state = { ...state, ...fields };
  over = null;
  notes = said;
  const another = NEW_PASS.some((name) => `${before?.[name]}` !== `${state[name]}`);
  if (another) seen = see(state, models[state.model]);
  if (before?.model !== state.model) cards = buildHeads(seen.cfg, chooseHead, setSwitch);
  paint();
  clearTimeout(writing);
  writing = setTimeout(writeAddress, REST);
  clearTimeout(speech);
  if (before) speech = setTimeout(announce, SILENCE);
}

/** The mouse is over a row: look at that one for as long as it is there. */
function point(place) {
  if (place?.row === over?.row && place?.key === over?.key) return;
  over = place;
  paintLooked();
}

function paint() {
  paintTask();
  paintInput();
  paintLoss(seen, state);
  paintHeads(cards, seen, state);
  paintGrid(grid, seen, state.head);
  write(find("look-title"), `Where head ${state.head} looks`);
  paintGauge(seen, state, models[state.model].found);
  paintLooked();
  keepFocus(grid);
}

function paintLooked() {
  const choice = choose(over ? { ...state, row: over.row, key: over.key ?? null } : state, seen);
  paintChoice(grid, seen, choice);
  paintAsked(seen, choice, state);
  paintWho(seen, choice, state);
  paintSummary(seen, choice, state);
  paintWhy(seen, choice, state);
}

function paintTask() {
  const { title, question, answer } = experiments.find(({ id }) => id === state.experiment);
  if (find("task-title").textContent !== title) find("answer").open = false;
  write(find("task-title"), title);
  write(find("question"), question);
  write(find("answer").lastElementChild, answer);
  find("answer").hidden = !answer;
  for (const button of document.querySelectorAll("#experiments button")) {
    button.setAttribute("aria-current", button.value === state.experiment);
  }
}

function paintInput() {
  const { n_ctx } = seen.cfg;
  find("model").value = state.model;
  if (find("text").value !== seen.text) find("text").value = seen.text;
  write(find("room"), `at most ${n_ctx - 1} words`);
  find("period").max = n_ctx - 3;
  if (state.period) find("period").value = state.period;
  write(find("period-is"), state.period ? `${state.period}` : "");
  write(find("deal"), state.period ? "draw others" : "deal other numbers");
  write(find("notes"), [...notes, ...seen.notes].join(" "));
}

function announce() {
  const loss = seen.loss === null ? "" : `Loss ${nats(seen.loss)} nats. `;
  write(find("said"), loss + find("summary").textContent);
}

function chooseHead(head) {
  change({ head, key: null });
}

function setSwitch(head, kind) {
  const others = (heads) => heads.filter((other) => other !== head);
  const switched = (name) => (kind === name ? [head] : []);
  const off = [...others(state.off), ...switched("off")].sort();
  change({ off, freeze: [...others(state.freeze), ...switched("freeze")].sort() });
}

function chooseModel(name) {
  const afresh = { ...state, model: name, off: [], freeze: [], key: null };
  change(fitting(afresh, models[name].cfg));
}

function writeAddress() {
  history.replaceState(null, "", `#${toFragment(state, experiments)}`);
}

function readAddress(address) {
  const asked = fromFragment(new URL(address).hash, experiments, models);
  change(asked.state, asked.notes);
}

function buildChoices() {
  for (const [name, { title }] of Object.entries(models)) {
    find("model").append(make("option", { value: name }, title));
  }
  experiments.forEach((experiment, i) => {
    const title = make("span", {}, experiment.title), value = experiment.id;
    const button = make("button", { type: "button", value }, `${i + 1} `, title);
    button.addEventListener("click", () => change(begin(experiment)));
    find("experiments").append(make("li", {}, button));
  });
}

function listen() {
  const on = (id, kind, act) => find(id).addEventListener(kind, ({ target }) => act(target.value));
  const elsewhere = { row: null, key: null };
  on("model", "change", chooseModel);
  on("text", "input", (text) => change({ text, period: 0, ...elsewhere }));
  on("period", "input", (value) => change({ period: Number(value), word: "", ...elsewhere }));
  on("deal", "click", () => change({ deal: (state.deal % MOST_DEALS) + 1 }));
  on("all-on", "click", () => change({ off: [], freeze: [] }));
  on("word", "change", (word) => change({ word }));
  on("stretch", "input", (value) => change({ stretch: Number(value) }));
  find("input").addEventListener("submit", (event) => event.preventDefault());
  // Not location: a state that waited to be written may stand there by now.
  addEventListener("hashchange", ({ newURL }) => readAddress(newURL));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => paintHeads(cards, seen, state));
}

function compareWithPyTorch() {
  const all = Object.values(models).map(({ model, cases }) => differenceFromPyTorch(model, cases));
  const difference = Math.max(...all), fits = difference < CLOSE;
  const verdict = fits ? "" : " That is too much: do not trust this page.";
  write(find("check"), "Compared when this page was opened: its logits, heads switched, differ ",
    `from PyTorch’s by at most ${difference.toExponential(0)}.${verdict}`);
  find("check").classList.toggle("broken", !fits);
}

document.documentElement.classList.toggle("inside", window.top !== window.self);
buildChoices();
readAddress(location.href);
listen();
compareWithPyTorch();
globalThis.lab = { // to play with in the browser's console, and what the tests compare
  models, attribution, compositionScore, expectations, habits, losses, runBoth, scoreParts,
  stretched, tokenSpaceComposition,
};
