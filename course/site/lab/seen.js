// All that one state shows: the forward passes and what is counted in them. No DOM.
import { allHeads, attribution, losses, rowOf, runBoth, softmax } from "./model.js";
import { compositionScore, stretched, tokenSpaceComposition } from "./gauge.js";
import { expectations, habits, randomText, tokenize } from "./words.js";

/** What a whole sequence shows, whichever row is looked at. entry: a model of the page. */
export function see(state, { cfg, model: original }) {
  const text = state.period ? randomText(state.period, state.deal, cfg) : state.text;
  const { tokens, names, notes } = tokenize(text, state.deal, cfg);
  const model = state.stretch ? stretched(original, state.stretch) : original;
  const off = state.off.map((head) => [head, "off"]);
  const frozen = state.freeze.map((head) => [head, "freeze"]);
  const { clean, run } = runBoth(model, tokens, Object.fromEntries([...frozen, ...off]));
  const expected = expectations(tokens), seen = { cfg, text, tokens, notes, original, model };
  Object.assign(seen, { clean, run, expected });
  seen.label = (token) => (token === 0 ? "BOS" : names.get(token) ?? `#${token}`);
  seen.guesses = tokens.map((_, pos) => bestGuesses(rowOf(run.logits, pos, cfg.d_vocab)));
  const known = [...expected.keys()].filter((pos) => expected[pos] === "known");
  const mean = (values) => known.reduce((sum, pos) => sum + values[pos] / known.length, 0);
  seen.loss = known.length ? mean(losses(model, run)) : null;
  seen.cleanLoss = known.length ? mean(losses(model, clean)) : null;
  seen.known = known.length;
  seen.right = known.filter((pos) => seen.guesses[pos][0].token === tokens[pos + 1]).length;
  const heads = allHeads(cfg).map((head) => [head, habits(run.patterns[head], tokens)]);
  seen.habits = Object.fromEntries(heads);
  const unstretched = state.stretch ? runBoth(original, tokens, {}).clean : clean;
  seen.moved = largestDifference(clean.logits, unstretched.logits);
  return seen;
}

/** The three likeliest tokens, with their probabilities. */
function bestGuesses(logits) {
  const chances = softmax(logits);
  const order = [...chances.keys()].sort((a, b) => chances[b] - chances[a]);
  return order.slice(0, 3).map((token) => ({ token, chance: chances[token] }));
}

export function largestDifference(x, y) {
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0);
}

/** The row, the key and the token that are looked at: those of the state, or the most telling. */
export function choose(state, seen) {
  const n = seen.tokens.length, row = Math.min(state.row ?? n - 1, n - 1);
  const pattern = rowOf(seen.run.patterns[state.head], row, n);
  const most = pattern.indexOf(Math.max(...pattern));
  const key = state.key === null || state.key > row ? most : state.key;
  const tokens = [...Array(seen.cfg.d_vocab).keys()];
  const named = state.word ? tokens.find((token) => seen.label(token) === state.word) : undefined;
  return { row, key, pattern, token: named ?? seen.guesses[row][0].token };
}

/** What each part writes towards the token: now, and with all heads on (`ring`). */
export function written(seen, { row, token }) {
  const now = attribution(seen.model, seen.run, row, token);
  const before = attribution(seen.model, seen.clean, row, token);
  const rows = Object.keys(now).map((name) => ({ name, value: now[name], ring: before[name] }));
  const sum = (kind) => rows.reduce((total, row) => total + row[kind], 0);
  return [...rows, { name: "all", value: sum("value"), ring: sum("ring") }];
}

/** Two scores of the edge from a head of layer 0 to one of layer 1: now, and unstretched. */
export function edgeScores(seen, from, to) {
  const scores = (model) => ({
    published: compositionScore(model, from, to),
    inTokens: tokenSpaceComposition(model, from, to),
  });
  const before = scores(seen.original);
  return { now: seen.model === seen.original ? before : scores(seen.model), before };
}

/** The stored logits of PyTorch against ours: the largest difference. */
export function differenceFromPyTorch(model, cases) {
  const differences = cases.map(({ tokens, switches, logits }) => {
    const { run } = runBoth(model, tokens, switches);
    return largestDifference(run.logits.slice(-logits.length), logits);
  });
  return Math.max(...differences);
}
