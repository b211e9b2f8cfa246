// All that one state shows: the forward passes and what is counted in them. No DOM.
import { allHeads, attribution, losses, rowOf, runBoth, softmax } from "./model.js";
import { compositionScore, stretched, tokenSpaceComposition } from "./gauge.js";
import { expectations, habits, randomText, tokenize } from "./words.js";

export const STRETCH = 0.3; // the noise at the end of the slider

/** What a whole sequence shows, whichever row is looked at. */
export function see(state, entry) {
  const cfg = entry.cfg, text = state.period ? randomText(state.period, state.deal, cfg) : state.text;
  const { tokens, names, notes } = tokenize(text, state.deal, cfg);
  const original = entry.model;
  const model = state.stretch ? stretched(original, STRETCH * state.stretch) : original;
  const switches = {};
  for (const head of state.freeze) switches[head] = "freeze";
  for (const head of state.off) switches[head] = "off";
  const { clean, run } = runBoth(model, tokens, switches);
  const expected = expectations(tokens);
  const seen = { cfg, text, tokens, notes, model, clean, run, expected };
  seen.label = (token) => (token === 0 ? "BOS" : names.get(token) ?? `#${token}`);
  seen.guesses = tokens.map((_, pos) => bestGuesses(rowOf(run.logits, pos, cfg.d_vocab)));
  seen.loss = meanWhereKnown(losses(model, run), expected);
  seen.cleanLoss = meanWhereKnown(losses(model, clean), expected);
  const known = expected.flatMap((what, pos) => (what === "known" ? [pos] : []));
  seen.known = known.length;
  seen.right = known.filter((pos) => seen.guesses[pos][0].token === tokens[pos + 1]).length;
  const heads = allHeads(cfg);
  seen.habits = Object.fromEntries(heads.map((head) => [head, habits(run.patterns[head], tokens)]));
  if (state.stretch) seen.moved = largestDifference(clean.logits, runBoth(original, tokens, {}).clean.logits);
  return seen;
}

/** The three likeliest tokens, with their probabilities. */
function bestGuesses(logits) {
  const chances = softmax(logits);
  const order = Array.from(chances.keys()).sort((a, b) => chances[b] - chances[a]);
  return order.slice(0, 3).map((token) => ({ token, chance: chances[token] }));
}

function meanWhereKnown(values, expected) {
  const counted = values.filter((_, pos) => expected[pos] === "known");
  return counted.length ? counted.reduce((a, b) => a + b) / counted.length : null;
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
  const tokens = Array.from({ length: seen.cfg.d_vocab }, (_, token) => token);
  const named = tokens.find((token) => state.word && seen.label(token) === state.word);
  const token = named ?? seen.guesses[row][0].token;
  return { row, key, token, pattern };
}

/** What each part writes towards the token: now, and with all heads on. */
export function written(seen, { row, token }) {
  const now = attribution(seen.model, seen.run, row, token);
  const before = attribution(seen.model, seen.clean, row, token);
  const sum = (parts) => Object.values(parts).reduce((a, b) => a + b);
  const rows = Object.keys(now).map((name) => ({ name, value: now[name], ring: before[name] }));
  return [...rows, { name: "all", value: sum(now), ring: sum(before), total: true }];
}

/** Two scores of the edge from a head of layer 0 to one of layer 1. */
export function edgeScores(seen, from, to) {
  const published = compositionScore(seen.model, from, to);
  return { published, inTokens: tokenSpaceComposition(seen.model, from, to) };
}

/** The stored logits of PyTorch against ours: the largest difference. */
export function differenceFromPyTorch(model, cases) {
  const differences = cases.map(({ tokens, switches, logits }) => {
    const { run } = runBoth(model, tokens, switches);
    return largestDifference(run.logits.slice(-logits.length), logits);
  });
  return Math.max(...differences);
}
