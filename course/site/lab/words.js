// Words and their tokens; random tokens that repeat; where the next one can be known. No DOM.

/** A generator of numbers in [0, 1), the same ones for the same seed (mulberry32). */
export function randomNumbers(seed) {
  let state = Math.imul(seed, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The tokens 1 ... d_vocab - 1, shuffled. */
function shuffled(d_vocab, next) {
  const tokens = Array.from({ length: d_vocab - 1 }, (_, i) => i + 1);
  for (let i = tokens.length - 1; i > 0; i--) {
    const j = Math.floor(next() * (i + 1));
    [tokens[i], tokens[j]] = [tokens[j], tokens[i]];
  }
  return tokens;
}

/** What stands in a text: words, single signs, and #17 for token 17. */
export function wordsOf(text) {
  return text.match(/#\d+|[\p{L}\p{M}\p{N}'’-]+|\S/gu) ?? [];
}

/** Each word gets a token, in the order that the seed shuffles them; #17 is always token 17.
 *  -> {tokens (BOS first), names: token -> word, notes: what was wrong with the text}. */
export function tokenize(text, seed, cfg) {
  const all = wordsOf(text), room = cfg.n_ctx - 1, words = all.slice(0, room), notes = [];
  if (all.length > room) {
    notes.push(`That is ${all.length} words. The model has room for ${room}, and reads those.`);
  }
  if (!all.length) notes.push("Nothing to read but BOS: type a word.");
  const given = (word) => {
    const number = /^#\d+$/.test(word) ? Number(word.slice(1)) : 0;
    return number >= 1 && number < cfg.d_vocab ? number : 0;
  };
  const strange = words.find((word) => /^#\d+$/.test(word) && !given(word));
  if (strange) {
    const last = cfg.d_vocab - 1;
    notes.push(`There is no token ${strange}, only #1 to #${last}: it counts as a word.`);
  }
  const taken = new Set(words.map(given));
  const free = shuffled(cfg.d_vocab, randomNumbers(seed)).filter((token) => !taken.has(token));
  const numbers = new Map();
  for (const word of words) {
    if (!numbers.has(word)) numbers.set(word, given(word) || free.pop());
  }
  const names = new Map([...numbers].map(([word, token]) => [token, word]));
  return { tokens: [0, ...words.map((word) => numbers.get(word))], names, notes };
}

/** A text of random tokens: up to three that come once, then a block of `period`, again and again
 *  until the context is full. */
export function randomText(period, seed, cfg) {
  const next = randomNumbers(seed), longest = cfg.n_ctx - 3 - period;
  const prefix = Math.floor(next() * (Math.min(3, longest) + 1));
  const tokens = shuffled(cfg.d_vocab, next);
  const words = [];
  for (let i = 0; i < cfg.n_ctx - 1; i++) {
    words.push(`#${tokens[i < prefix ? i : prefix + ((i - prefix) % period)]}`);
  }
  return words.join(" ");
}

/** For each position but the last, with the words that followed earlier copies of its token:
 *  "" if there are none, "known" if all were what comes next, "surprise" otherwise. */
export function expectations(tokens) {
  return tokens.slice(1).map((next, pos) => {
    const earlier = tokens.slice(1, pos + 1).filter((_, i) => tokens[i] === tokens[pos]);
    if (!earlier.length) return "";
    return earlier.every((token) => token === next) ? "known" : "surprise";
  });
}

/** A pattern's shares of attention: on the word before (`previous`), and on the words after
 *  earlier copies, where there are any (`induction`). */
export function habits(pattern, tokens) {
  const n = tokens.length;
  let previous = 0, induction = 0, counted = 0;
  for (let query = 1; query < n; query++) {
    previous += pattern[query * n + query - 1];
    let found = false;
    for (let key = 1; key <= query; key++) {
      if (tokens[key - 1] !== tokens[query]) continue;
      found = true;
      induction += pattern[query * n + key];
    }
    counted += found;
  }
  return { previous: previous / Math.max(1, n - 1), induction: induction / Math.max(1, counted) };
}
