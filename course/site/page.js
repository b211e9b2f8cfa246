// Search without a server (INDEX is index.js: [words, what, address]), and all answers at once.
const box = document.getElementById("search");
const found = document.getElementById("found");
const all = document.querySelector("#guess input");
const answers = document.querySelectorAll("details.answer");

function search() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = INDEX.filter(([text, what]) =>
    words.every((word) => `${text} ${what}`.toLowerCase().includes(word)));
  hits.sort(([a], [b]) => place(a) - place(b)); // what is called so, before what speaks of it
  found.replaceChildren(...(words.length ? hits.slice(0, 12) : []).map(row));
  if (words.length && !hits.length) found.append("Nothing in titles, terms or exercises.");
  found.hidden = !words.length;
}

function place(text) {
  const plain = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, " ").trim();
  const name = plain(text), asked = plain(box.value);
  return name.startsWith(asked) ? 0 : name.includes(asked) ? 1 : 2;
}

function row([text, what, address]) {
  const link = Object.assign(document.createElement("a"), { textContent: text });
  link.href = document.body.dataset.root + address;
  const item = document.createElement("li");
  item.append(link, ` ${what}`);
  return item;
}

box.hidden = false;
box.addEventListener("input", search);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter") found.querySelector("a")?.click();
  if (event.key === "Escape") { box.value = ""; search(); }
});
found.addEventListener("click", () => { box.value = ""; search(); });
if (answers.length) all.parentElement.hidden = false;
all.addEventListener("change", () => answers.forEach((each) => { each.open = all.checked; }));
