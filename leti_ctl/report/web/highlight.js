// Python in colours. What it is given was written by a model, so it only ever makes text nodes.

const KEYWORDS = new Set(
  ("False None True and as assert async await break case class continue def del elif else except finally for from " +
    "global if import in is lambda match nonlocal not or pass raise return try while with yield").split(" "),
);
const TOKENS =
  /(?<c>#[^\n]*)|(?<s>[rbfuRBFU]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?))|(?<n>\b\d[\w.]*)|(?<w>[\p{L}_][\p{L}\p{N}_]*)/gu;
// Invisible characters are shown as what they are: text must not be able to hide or reorder itself.
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Return an element with properties, attributes (other names), and children; strings become text nodes. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Append text to a node, control characters spelled out, what `query` matches marked. */
function write(node, text, query = "") {
  let from = 0;
  for (const found of text.matchAll(CONTROL)) {
    marked(node, text.slice(from, found.index), query);
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(make("span", { class: "control" }, `U+${code}`));
    from = found.index + found[0].length;
  }
  marked(node, text.slice(from), query);
  return node;
}

function marked(node, text, query) {
  if (!query) return void (text && node.append(text));
  const lower = text.toLowerCase();
  // Lowering a letter may change its length (İ); places then no longer match, so nothing is marked.
  let from = 0;
  for (let at = lower.indexOf(query); at >= 0 && lower.length === text.length; at = lower.indexOf(query, from)) {
    node.append(text.slice(from, at), make("mark", {}, text.slice(at, at + query.length)));
    from = at + query.length;
  }
  node.append(text.slice(from));
}

/** Append Python source to a node, coloured. */
function highlight(node, source, query = "") {
  let from = 0;
  let defines = false;
  for (const found of source.matchAll(TOKENS)) {
    const [text, groups] = [found[0], found.groups];
    let kind = groups.c ? "c" : groups.s ? "s" : groups.n ? "n" : KEYWORDS.has(text) ? "k" : defines ? "d" : "";
    if (groups.w) defines = text === "def" || text === "class";
    if (!kind) continue;
    write(node, source.slice(from, found.index), query);
    node.append(write(make("span", { class: kind }), text, query));
    from = found.index + text.length;
  }
  return write(node, source.slice(from), query);
}
