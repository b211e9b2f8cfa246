// What the page shows, as plain values, and as the part of its address after #. No DOM.
//
//   #experiment=which-james                    an experiment as it begins
//   #experiment=which-james&deal=3&off=0.2     the same, changed
//   #model=impostor&period=9&head=1.0&row=20   no experiment: the first one, changed
//
// Fields: experiment (a name), model (a name), text (words), period (of random tokens, instead of a
// text), deal (a seed: which numbers the words get, or which random tokens), off and freeze (heads,
// with commas), head, row and key (positions), word (whose logit is taken apart), stretch (0 to 1).
import { allHeads } from "./model.js";

const EMPTY = {
  model: "induction", text: "", period: 0, deal: 1, off: [], freeze: [], head: "", row: null,
  key: null, word: "", stretch: 0,
};
export const MOST_DEALS = 9999;
const LIMITS = new Map([
  ["deal", [1, MOST_DEALS]], ["row", [0, 99]], ["key", [0, 99]], ["stretch", [0, 1]],
]);

/** The state in which an experiment begins. */
export function begin(experiment) {
  return { ...EMPTY, ...experiment.state, experiment: experiment.id };
}

/** The state as the end of an address: what differs from the beginning of its experiment. */
export function toFragment(state, experiments) {
  const start = begin(experiments.find(({ id }) => id === state.experiment));
  const changed = Object.keys(EMPTY).filter((name) => `${state[name]}` !== `${start[name]}`);
  const told = changed.map((name) => [name, state[name] ?? ""]);
  return new URLSearchParams([["experiment", state.experiment], ...told]).toString();
}

/** The state that an address asks for, and a sentence for each thing in it that is not there. */
export function fromFragment(fragment, experiments, models) {
  const asked = new URLSearchParams(fragment.replace(/^#/, ""));
  const wanted = asked.get("experiment") ?? experiments[0].id;
  const found = experiments.find(({ id }) => id === wanted), notes = [];
  const state = begin(found ?? experiments[0]);
  if (!found) notes.push(`The address asks for an experiment that is not here: ${wanted}.`);
  asked.delete("experiment");
  if (Object.hasOwn(models, asked.get("model"))) state.model = asked.get("model");
  if (asked.has("text")) state.period = 0;
  for (const [name, value] of asked) {
    const read = parsed(name, value, models[state.model].cfg, models);
    if (read === undefined) notes.push(`${name}=${value} in the address means nothing here.`);
    else state[name] = read;
  }
  return { state: fitting(state, models[state.model].cfg), notes };
}

/** One field of an address, or undefined. */
function parsed(name, value, cfg, models) {
  const heads = allHeads(cfg), isHead = (head) => heads.includes(head);
  if (name === "text" || name === "word") return value;
  if (name === "model") return Object.hasOwn(models, value) ? value : undefined;
  if (name === "head") return isHead(value) ? value : undefined;
  if (name === "off" || name === "freeze") {
    const named = value.split(",").filter(Boolean);
    return named.every(isHead) ? named : undefined;
  }
  if (value === "" && (name === "row" || name === "key")) return null;
  const limits = new Map([...LIMITS, ["period", [0, cfg.n_ctx - 3]]]);
  const [low, high] = limits.get(name) ?? [1, 0];
  const number = Number(value || NaN), whole = name === "stretch" || Number.isInteger(number);
  return whole && number >= low && number <= high ? number : undefined;
}

/** The state without the heads that another model does not have. */
export function fitting(state, cfg) {
  const heads = allHeads(cfg), there = (head) => heads.includes(head);
  const head = there(state.head) ? state.head : heads.at(-1);
  const freeze = state.freeze.filter((name) => there(name) && !name.startsWith("0."));
  return { ...state, head, off: state.off.filter(there), freeze };
}
