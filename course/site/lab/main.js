// The page: a state, what it shows, and what the reader does to it.
import { allHeads, unpack } from "./model.js";
import { randomText } from "./words.js";
import { MOST_DEALS, begin, fitting, fromFragment, toFragment } from "./state.js";
import { choose, differenceFromPyTorch, see } from "./seen.js";
import { find, make, short, write } from "./page.js";
import { buildGrid, keepFocus, paintChoice, paintGrid } from "./grid.js";
import {
  buildHeads, paintGauge, paintHeads, paintLoss, paintSummary, paintWho, paintWhy,
} from "./panels.js";

const { models, experiments, size } = JSON.parse(find("payload").textContent);
for (const [name, entry] of Object.entries(models)) {
  entry.model = unpack(entry.cfg, entry.weights);
  entry.cfg.name = name;
}
const grid = buildGrid(find("grid"), find("arcs"), size, change, point);
let state, seen, cards, shownModel, over = null, addressNotes = [], speech;

/** Something was chosen: a new forward pass, if it needs one, and patches where it shows. */
function change(fields) {
  const before = state;
  over = null;
  state = { ...state, ...fields };
  addressNotes = fields.notes ?? [];
  delete state.notes;
  const same = ["model", "text", "period", "deal", "off", "freeze", "stretch"];
  if (!before || same.some((name) => `${before[name]}` !== `${state[name]}`)) seen = see(state, models[state.model]);
  paint();
  history.replaceState(null, "", `#${toFragment(state, experiments)}`);
  clearTimeout(speech);
  speech = setTimeout(announce, 700); // a screen reader need not hear each key
}

/** The mouse is over a row: look at it for as long as it is there. */
function point(place) {
  if (place?.row === over?.row && place?.key === over?.key) return;
  over = place;
  paintLooked();
}

function paint() {
  if (shownModel !== state.model) {
    shownModel = state.model;
    cards = buildHeads(seen.cfg, (head) => change({ head, key: null }), setSwitch);
  }
  paintTask();
  paintInput();
  paintLoss(seen, state);
  paintHeads(cards, seen, state);
  paintGrid(grid, seen, state.head);
  const [layer] = state.head.split(".");
  write(find("look-title"), `Where head ${state.head} looks`, make("small", {}, ` layer ${layer}`));
  paintGauge(seen, state, models[state.model].found);
  paintLooked();
  keepFocus(grid);
}

function paintLooked() {
  const looked = over ? { ...state, row: over.row, key: over.key } : state;
  const choice = choose(looked, seen);
  paintChoice(grid, seen, choice);
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
  for (const button of document.querySelectorAll("#experiments button")) {
    if (button.value === state.experiment) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

function paintInput() {
  const { cfg } = seen, longest = cfg.n_ctx - 3;
  find("model").value = state.model;
  if (find("text").value !== seen.text) find("text").value = seen.text;
  write(find("room"), `(at most ${cfg.n_ctx - 1} words)`);
  find("period").max = longest;
  if (state.period) find("period").value = state.period;
  write(find("period-is"), state.period ? `${state.period}` : "");
  write(find("deal"), state.period ? "draw others" : "deal other numbers");
  write(find("notes"), [...addressNotes, ...seen.notes].join(" "));
}

function setSwitch(head, kind) {
  const without = (heads) => heads.filter((other) => other !== head);
  const sorted = (heads, add) => (add ? [...without(heads), head].sort() : without(heads));
  change({ off: sorted(state.off, kind === "off"), freeze: sorted(state.freeze, kind === "freeze") });
}

function announce() {
  const loss = seen.loss === null ? "" : `Loss ${short(seen.loss)}, ${seen.right} of ${seen.known} right. `;
  write(find("said"), loss + find("summary").textContent);
}

function listen() {
  find("model").addEventListener("change", ({ target }) => {
    change(fitting({ ...state, model: target.value, off: [], freeze: [], key: null }, models[target.value].cfg));
  });
  find("text").addEventListener("input", ({ target }) => change({ text: target.value, period: 0, row: null, key: null }));
  find("period").addEventListener("input", ({ target }) => {
    change({ period: Number(target.value), row: null, key: null, word: "" });
  });
  find("deal").addEventListener("click", () => change({ deal: (state.deal % MOST_DEALS) + 1 }));
  find("all-on").addEventListener("click", () => change({ off: [], freeze: [] }));
  find("word").addEventListener("change", ({ target }) => change({ word: target.value }));
  find("stretch").addEventListener("input", ({ target }) => change({ stretch: Number(target.value) }));
  find("input").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", readAddress);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paintHeads(cards, seen, state));
}

function readAddress() {
  const asked = fromFragment(location.hash, experiments, models);
  change({ ...asked.state, notes: asked.notes });
}

function buildChoices() {
  find("model").append(...Object.entries(models).map(([name, { title }]) => make("option", { value: name }, title)));
  find("experiments").append(...experiments.map((experiment, i) => {
    const title = make("span", {}, experiment.title);
    const button = make("button", { type: "button", value: experiment.id }, `${i + 1} `, title);
    button.disabled = Boolean(experiment.missing);
    button.title = experiment.missing || experiment.title;
    button.addEventListener("click", () => change(begin(experiment)));
    return make("li", {}, button);
  }));
}

function compareWithPyTorch() {
  const all = Object.values(models).map(({ model, cases }) => differenceFromPyTorch(model, cases));
  const difference = Math.max(...all), fits = difference < 2e-5;
  const verdict = fits ? "" : " That is too much: do not trust this page.";
  write(find("check"), `Compared when the page was opened: its logits, heads switched, differ from PyTorch’s by at most ${difference.toExponential(0)}.${verdict}`);
  find("check").classList.toggle("broken", !fits);
}

document.documentElement.classList.toggle("inside", window.top !== window.self);
buildChoices();
readAddress();
listen();
compareWithPyTorch();
globalThis.lab = { models, see, randomText, allHeads }; // to play with in the browser's console
