// The forward pass of minitransformer/model.py for one sequence, and what it is a sum of. No DOM.
//
// Axis words are the course's: pos (a query looks, a key is looked at), d_model, d_head, vocab. A
// matrix is a Float64Array, row after row. A head is named "layer.head", a part of the stream by
// who wrote it: "embedding", "0.0", "0.1", ... Switches: head -> "off" (it writes nothing) or
// "freeze" (it keeps the pattern that it has when all heads are on).

const ORDER = ["W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U"];

/** The model of a config, from the base64 of all its weights as float32, in the order above. */
export function unpack(cfg, base64) {
  const { d_model, d_head, d_vocab, n_ctx } = cfg;
  const heads = cfg.n_layers * cfg.n_heads * d_model * d_head;
  const sizes = [d_vocab * d_model, n_ctx * d_model, heads, heads, heads, heads, d_model * d_vocab];
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const numbers = Float64Array.from(new Float32Array(bytes.buffer));
  const model = { cfg };
  let at = 0;
  ORDER.forEach((name, i) => (model[name] = numbers.subarray(at, (at += sizes[i]))));
  return model;
}

export function headsOf(cfg, layer) {
  return Array.from({ length: cfg.n_heads }, (_, head) => `${layer}.${head}`);
}

export function allHeads(cfg) {
  return Array.from({ length: cfg.n_layers }, (_, layer) => headsOf(cfg, layer)).flat();
}

/** One head's W_Q, W_K, W_V [d_model, d_head] or W_O [d_head, d_model]. */
export function weight(model, name, head) {
  const [layer, number] = head.split(".").map(Number);
  const size = model.cfg.d_model * model.cfg.d_head;
  const at = (layer * model.cfg.n_heads + number) * size;
  return model[name].subarray(at, at + size);
}

/** x [rows, inner] times W [inner, columns]. */
export function times(x, W, inner) {
  const rows = x.length / inner, columns = W.length / inner;
  const product = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < inner; i++) {
      const factor = x[row * inner + i];
      for (let c = 0; c < columns; c++) product[row * columns + c] += factor * W[i * columns + c];
    }
  }
  return product;
}

export const plus = (x, y) => x.map((value, i) => value + y[i]);

export const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);

export function softmax(values) {
  const largest = values.reduce((a, b) => Math.max(a, b));
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

export const rowOf = (matrix, row, width) => matrix.subarray(row * width, (row + 1) * width);

/** tokens -> {tokens, parts, patterns, logits}: part -> [pos, d_model], head -> [query, key],
 *  [pos, vocab]. clean: the run with all heads on, for those that are frozen. */
export function forward(model, tokens, switches = {}, clean = null) {
  const { n_layers, d_model } = model.cfg, n = tokens.length;
  const embedding = new Float64Array(n * d_model);
  tokens.forEach((token, i) => embedding.set(rowOf(model.W_E, token, d_model), i * d_model));
  const run = { tokens, parts: { embedding }, patterns: {} };
  let stream = embedding;
  for (let layer = 0; layer < n_layers; layer++) {
    const read = stream;
    for (const head of headsOf(model.cfg, layer)) {
      const kept = switches[head] === "freeze" && clean.patterns[head];
      const pattern = kept || attention(model, head, read, n);
      const z = times(pattern, times(read, weight(model, "W_V", head), d_model), n);
      const result = times(z, weight(model, "W_O", head), model.cfg.d_head);
      if (switches[head] === "off") result.fill(0);
      run.patterns[head] = pattern;
      run.parts[head] = result;
      stream = plus(stream, result);
    }
  }
  run.logits = times(stream, model.W_U, d_model);
  return run;
}

/** Both runs: with all heads on, and as they are switched. */
export function runBoth(model, tokens, switches) {
  const clean = forward(model, tokens);
  const run = Object.keys(switches).length ? forward(model, tokens, switches, clean) : clean;
  return { clean, run };
}

/** A head's pattern [query, key] on the stream that it reads [pos, d_model]. */
function attention(model, head, read, n) {
  const { d_model, d_head } = model.cfg;
  const placed = plus(read, model.W_pos.subarray(0, n * d_model)); // q and k alone see positions
  const q = times(placed, weight(model, "W_Q", head), d_model);
  const k = times(placed, weight(model, "W_K", head), d_model);
  const pattern = new Float64Array(n * n);
  for (let query = 0; query < n; query++) {
    const scores = new Float64Array(query + 1); // keys up to the query: the causal mask
    for (let key = 0; key <= query; key++) {
      scores[key] = dot(rowOf(q, query, d_head), rowOf(k, key, d_head)) / Math.sqrt(d_head);
    }
    pattern.set(softmax(scores), query * n);
  }
  return pattern;
}

/** A head's scores at one query, by what the keys are made of: part -> [key], their sum: `score`.
 *  Positions are a part of their own here. */
export function scoreParts(model, run, head, query) {
  const { d_model, d_head } = model.cfg, layer = Number(head.split(".")[0]);
  const parts = { embedding: run.parts.embedding, position: model.W_pos };
  for (const earlier of allHeads(model.cfg)) {
    if (Number(earlier.split(".")[0]) < layer) parts[earlier] = run.parts[earlier];
  }
  const asks = Object.values(parts).map((part) => rowOf(part, query, d_model)).reduce(plus);
  const q = times(asks, weight(model, "W_Q", head), d_model);
  const scores = {};
  for (const [name, part] of Object.entries(parts)) {
    const keys = part.subarray(0, (query + 1) * d_model);
    const k = times(keys, weight(model, "W_K", head), d_model);
    scores[name] = times(k, q, d_head).map((product) => product / Math.sqrt(d_head));
  }
  scores.score = Object.values(scores).reduce(plus);
  return scores;
}

/** Scores less their mean over the keys. A softmax cannot see such a constant. */
export function againstMeanKey(values) {
  const mean = values.reduce((a, b) => a + b) / values.length;
  return values.map((value) => value - mean);
}

/** What each part writes at one position towards one token, against the mean of all tokens. */
export function attribution(model, run, pos, token) {
  const { d_model, d_vocab } = model.cfg;
  const towards = new Float64Array(d_model);
  for (let i = 0; i < d_model; i++) {
    const row = rowOf(model.W_U, i, d_vocab);
    towards[i] = row[token] - row.reduce((a, b) => a + b) / d_vocab;
  }
  const parts = Object.entries(run.parts);
  return Object.fromEntries(
    parts.map(([name, part]) => [name, dot(rowOf(part, pos, d_model), towards)]),
  );
}

/** The loss at each position but the last: minus the log-probability of the next token, in nats. */
export function losses(model, run) {
  const d_vocab = model.cfg.d_vocab;
  return run.tokens.slice(1).map((next, pos) => {
    return -Math.log(softmax(rowOf(run.logits, pos, d_vocab))[next]);
  });
}
