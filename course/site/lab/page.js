// Three words for what every part of the page does with the document.

export const find = (id) => document.getElementById(id);

/** A new element with its attributes and what is inside. */
export function make(tag, attributes, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

/** Put text, or pieces of text and elements, into a node, if it is not there already. */
export function write(node, ...pieces) {
  const text = pieces.map((piece) => piece.textContent ?? piece).join("");
  if (node.textContent !== text) node.replaceChildren(...pieces);
}

export const bold = (text) => make("b", {}, text);

/** A number as one would say it: three digits that matter, no more. */
export function short(value) {
  const size = Math.abs(value);
  if (size < 1e-12) return "0";
  if (size < 1e-3) return value.toExponential(0);
  return size < 0.1 ? value.toFixed(4) : value.toFixed(2);
}

/** Two decimals, a true minus sign, and no minus before a zero. */
export const signed = (value) => value.toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−");

export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
