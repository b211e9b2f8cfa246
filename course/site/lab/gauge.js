// A change of the weights that no behaviour shows: the stream in another basis (chapter 8), and two
// scores of one edge, of which one moves. No DOM.
import { againstMeanKey, allHeads, dot, rowOf, times, weight } from "./model.js";
import { randomNumbers } from "./words.js";

const NOISE = 0.3; // at the end of the slider

/** The model with every vector x of its stream written as x S, S = I + amount * NOISE * noise. */
export function stretched(model, amount) {
  const { d_model, d_head } = model.cfg;
  const S = identity(d_model).map(addNoise(amount));
  const undo = inverse(S, d_model);
  const other = { cfg: model.cfg };
  for (const name of ["W_E", "W_pos", "W_O"]) other[name] = times(model[name], S, d_model);
  for (const name of ["W_Q", "W_K", "W_V"]) {
    other[name] = new Float64Array(model[name].length);
    allHeads(model.cfg).forEach((head, i) => {
      const reads = times(undo, weight(model, name, head), d_model);
      other[name].set(reads, i * d_model * d_head);
    });
  }
  other.W_U = times(undo, model.W_U, d_model);
  return other;
}

function addNoise(amount) {
  const next = randomNumbers(8);
  return (value) => {
    const normal = Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
    return value + amount * NOISE * normal;
  };
}

function identity(size) {
  return new Float64Array(size * size).map((_, i) => (i % (size + 1) === 0 ? 1 : 0));
}

/** Of S [size, size], by Gauss and Jordan, with the largest pivot of each column. */
export function inverse(S, size) {
  const left = S.slice(), right = identity(size);
  for (let column = 0; column < size; column++) {
    let best = column;
    for (let row = column; row < size; row++) {
      if (Math.abs(left[row * size + column]) > Math.abs(left[best * size + column])) best = row;
    }
    for (const matrix of [left, right]) {
      const a = rowOf(matrix, column, size), b = rowOf(matrix, best, size), kept = a.slice();
      a.set(b);
      if (best !== column) b.set(kept);
    }
    const pivot = left[column * size + column];
    for (const matrix of [left, right]) {
      rowOf(matrix, column, size).forEach((value, i, row) => (row[i] = value / pivot));
    }
    for (let row = 0; row < size; row++) {
      const factor = left[row * size + column];
      if (row === column || factor === 0) continue;
      for (const matrix of [left, right]) {
        const a = rowOf(matrix, row, size), b = rowOf(matrix, column, size);
        for (let i = 0; i < size; i++) a[i] -= factor * b[i];
      }
    }
  }
  return right;
}

const norm = (matrix) => Math.sqrt(dot(matrix, matrix));

function transposed(matrix, rows) {
  const columns = matrix.length / rows;
  return matrix.map((_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]);
}

/** How much of what one head writes another reads in its keys, as published:
 *  |W_OV W_QK^T| / (|W_OV| |W_QK|), Elhage et al. 2021. */
export function compositionScore(model, from, to) {
  const { d_model, d_head } = model.cfg;
  const OV = times(weight(model, "W_V", from), weight(model, "W_O", from), d_head);
  const queries = transposed(weight(model, "W_Q", to), d_model);
  const KQ = times(weight(model, "W_K", to), queries, d_head); // W_QK transposed
  return norm(times(OV, KQ, d_model)) / (norm(OV) * norm(KQ));
}

/** The same edge in token space: how far it moves a score, in nats. Root mean square over all pairs
 *  of tokens (one asks, one was moved into the key), each less its mean over the keys. */
export function tokenSpaceComposition(model, from, to) {
  const { d_model, d_head, d_vocab } = model.cfg;
  const q = times(model.W_E, weight(model, "W_Q", to), d_model);
  const z = times(model.W_E, weight(model, "W_V", from), d_model);
  const moved = times(z, weight(model, "W_O", from), d_head);
  const k = times(moved, weight(model, "W_K", to), d_model);
  const scores = times(q, transposed(k, d_vocab), d_head);
  for (let token = 0; token < d_vocab; token++) {
    const row = rowOf(scores, token, d_vocab);
    row.set(againstMeanKey(row));
  }
  return norm(scores) / d_vocab / Math.sqrt(d_head);
}
