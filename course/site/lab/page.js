// What every part of the page does with the document, and how numbers are said.

export const find = (id) => document.getElementById(id);

/** A new element with its attributes and what is inside. */
export function make(tag, attributes = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

export const list = (length, build) => Array.from({ length }, (_, i) => build(i));

/** Put text, or pieces of text and elements, into a node, unless they are there already. */
export function write(node, ...pieces) {
  const text = pieces.map((piece) => piece.textContent ?? piece).join("");
  if (node.textContent !== text) node.replaceChildren(...pieces);
}

export const bold = (text) => make("b", {}, text);

/** How much colour a cell has. Most cells keep theirs, and what is not touched costs nothing. */
export function share(node, value) {
  const text = value.toFixed(3);
  if (node.share !== text) node.style.setProperty("--share", text);
  node.share = text;
}

export const nats = (value) => value.toFixed(value < 0.0995 ? 4 : 2);

/** Two decimals, a true minus sign, and no minus before a zero. */
export const signed = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−");

/** A probability in hundredths. */
export function hundredths(chance) {
  if (chance < 0.0005) return "<.1";
  return (100 * chance).toFixed(chance < 0.0995 ? 1 : 0);
}

/** With a space at which no line ends. */
export const percent = (chance) => `${hundredths(chance)}\u00a0%`;
