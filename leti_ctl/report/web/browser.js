// The browser of problems x iterations: which problem was solved when, and what the model wrote.

const CHANGES = {
  any: () => true,
  learned: (first, last) => first === 0 && last > 0,
  forgot: (first, last) => first > 0 && last === 0,
  better: (first, last) => last > first,
  worse: (first, last) => last < first,
  never: (first, last, rates) => rates.every((rate) => !rate),
  always: (first, last, rates) => rates.every((rate) => rate > 0),
};
const ORDERS = {
  file: () => 0,
  best: (a, b) => b.last - a.last,
  worst: (a, b) => a.last - b.last,
  gain: (a, b) => b.last - b.first - (a.last - a.first),
  loss: (a, b) => a.last - a.first - (b.last - b.first),
};
const DEFAULTS = { run: "", pass: "", problem: "", iteration: "", q: "", kind: "", change: "any", order: "file" };

class Browser {
  constructor(root, catalog, chunks) {
    this.root = root;
    this.catalog = catalog;
    this.chunks = chunks;
    this.opened = new Map();
    this.texts = new Map();
    this.search = 0;
    this.state = { ...DEFAULTS };
    this.part = (name) => root.querySelector(`[data-part=${name}]`);
    this.list = this.part("problems");
    for (const run of catalog.runs) for (const pass of run.passes) pass.problems.forEach((row) => this.measure(row));
    this.fillChoices();
    this.listen();
    this.follow();
  }

  /** Add to a problem what filters ask for: pass rate per iteration, its first and last, kinds that occurred. */
  measure(row) {
    const passed = this.catalog.kinds.findIndex((kind) => kind.outcome === "passed");
    row.rates = row.counts.map((counts) => {
      const [total, good] = tally(counts, passed);
      return total ? good / total : null;
    });
    const known = row.rates.filter((rate) => rate !== null);
    [row.first, row.last] = known.length ? [known[0], known.at(-1)] : [0, 0];
  }

  get run() {
    return this.catalog.runs.find((run) => run.run === this.state.run) ?? this.catalog.runs[0];
  }

  get pass() {
    const passes = this.run.passes;
    return passes.find((pass) => pass.name === this.state.pass) ?? passes.find((pass) => pass.split === "test") ?? passes[0];
  }

  get row() {
    return this.pass.problems.find((row) => row.id === this.state.problem) ?? this.shown?.[0] ?? null;
  }

  /** Place of the chosen iteration among the pass's own; the last one if none is chosen. */
  get column() {
    const place = this.pass.iterations.indexOf(Number(this.state.iteration));
    return this.state.iteration !== "" && place >= 0 ? place : this.pass.iterations.length - 1;
  }

  fillChoices() {
    const kinds = this.catalog.kinds.map((kind) => nameOf(kind));
    this.part("run").append(...this.catalog.runs.map((run) => make("option", { value: run.run }, run.run)));
    this.part("run").closest("label").hidden = this.catalog.runs.length < 2;
    this.part("kind").append(...[...new Set(kinds)].sort().map((name) => make("option", { value: name }, name)));
  }

  listen() {
    for (const name of ["run", "pass", "kind", "change", "order"])
      this.part(name).addEventListener("change", (event) => this.go({ [name]: event.target.value }));
    let timer;
    this.part("q").addEventListener("input", (event) => {
      clearTimeout(timer);
      timer = setTimeout(() => this.go({ q: event.target.value.trim() }), 150);
    });
    this.list.addEventListener("keydown", (event) => this.press(event));
    this.list.addEventListener("click", (event) => this.click(event));
    addEventListener("hashchange", () => this.follow());
    document.addEventListener("keydown", (event) => this.shortcut(event));
  }

  /** Take the state from the address, so that a link shows what its sender saw. */
  follow() {
    const [name, query] = location.hash.slice(1).split("?");
    const asked = name === "browse" ? Object.fromEntries(new URLSearchParams(query ?? "")) : {};
    const known = Object.fromEntries(Object.entries(asked).filter(([key]) => Object.hasOwn(DEFAULTS, key)));
    if (!Object.hasOwn(CHANGES, known.change)) delete known.change;
    if (!Object.hasOwn(ORDERS, known.order)) delete known.order;
    if (name === "browse" || !this.shown) this.show({ ...DEFAULTS, ...known });
    if (name === "browse" && query) this.root.scrollIntoView();
  }

  go(change) {
    const state = { ...this.state, ...change };
    const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]));
    history.replaceState(null, "", `#browse${query.size ? `?${query}` : ""}`);
    this.show(state);
  }

  /** Show a state; `settled` is done when all of it is on the screen. */
  show(state) {
    this.settled = this.apply(state);
    return this.settled;
  }

  async apply(state) {
    const list = listKey(this.state);
    this.state = state;
    const passes = this.run.passes.map((pass) => make("option", { value: pass.name }, pass.name));
    this.part("pass").replaceChildren(...passes);
    for (const name of ["run", "pass", "kind", "change", "order"]) this.part(name).value = this.state[name];
    this.part("run").value = this.run.run;
    this.part("pass").value = this.pass.name;
    if (this.part("q").value.trim() !== state.q) this.part("q").value = state.q;
    if (list !== listKey(state) || !this.shown) await this.filter();
    this.mark();
    await this.detail();
  }

  /** Choose the rows; texts are unpacked and read only if something is searched for. */
  async filter() {
    const search = ++this.search;
    const { q, kind, change, order } = this.state;
    const query = q.toLowerCase();
    const places = new Set(this.catalog.kinds.flatMap((each, place) => (nameOf(each) === kind ? [place] : [])));
    const { problems } = this.pass;
    let found = problems.filter((row) => CHANGES[change](row.first, row.last, row.rates));
    if (kind) found = found.filter((row) => row.counts.some((counts) => has(counts, places)));
    if (query) {
      this.part("count").textContent = "reading texts …";
      const texts = await Promise.all(found.map((row) => this.text(row)));
      if (search !== this.search) return;
      found = found.filter((row, place) => texts[place].includes(query));
    }
    this.shown = [...found].sort(ORDERS[order]);
    this.fill(places);
    this.part("count").textContent =
      this.shown.length === problems.length ? `${problems.length} problems` : `${this.shown.length} of ${problems.length} problems`;
  }

  fill(places) {
    const room = 0.4 * (this.list.clientWidth || 540);
    const side = Math.max(4, Math.min(22, Math.floor(room / this.pass.iterations.length) - 1));
    const every = Math.ceil(22 / side);
    this.list.style.setProperty("--side", `${side}px`);
    const heads = this.pass.iterations.map((number, place) =>
      make("span", { class: "cell" }, place % every === 0 ? String(number) : ""),
    );
    this.part("heads").style.setProperty("--side", `${side}px`);
    this.part("heads").replaceChildren(
      make("span", {}, "problem"), make("span", { class: "strip" }, ...heads), make("span", { class: "last" }, "last"),
    );
    const rows = this.shown.map((row, place) => this.line(row, place, places));
    this.list.replaceChildren(...rows);
    if (!rows.length) this.list.append(make("p", { class: "empty" }, "No problem matches. Esc clears the filters."));
  }

  line(row, place, kinds) {
    const cells = row.rates.map((rate, column) => {
      const dim = kinds.size && !has(row.counts[column], kinds);
      const label = `iteration ${this.pass.iterations[column]}: ${rate === null ? "no samples" : `${percent(rate)} passed`}`;
      const look = rate === null ? "cell none" : dim ? "cell dim" : "cell";
      return make("span", { class: look, role: "gridcell", id: `cell-${place}-${column}`, "--rate": rate ?? 0, "aria-label": label, title: label });
    });
    const called = make("span", { class: "called", role: "rowheader", title: row.title }, make("span", { class: "id" }, row.id), row.title);
    const last = make("span", { class: "last", role: "gridcell" }, percent(row.last));
    return make("div", { class: "row", role: "row", "data-id": row.id }, called, make("span", { class: "strip", role: "presentation" }, ...cells), last);
  }

  /** Move the mark to the chosen problem and iteration. */
  mark() {
    this.list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.list.querySelector(".here")?.classList.remove("here");
    const place = this.row ? this.shown.indexOf(this.row) : -1;
    const line = this.list.children[place];
    if (place < 0 || !line) return this.list.removeAttribute("aria-activedescendant");
    line.setAttribute("aria-selected", "true");
    const cell = document.getElementById(`cell-${place}-${this.column}`);
    cell?.classList.add("here");
    this.list.setAttribute("aria-activedescendant", cell?.id ?? "");
    const [top, bottom] = [line.offsetTop, line.offsetTop + line.offsetHeight];
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    if (bottom > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = bottom - this.list.clientHeight;
  }

  click(event) {
    const line = event.target.closest(".row");
    if (!line) return;
    const column = event.target.id?.match(/^cell-\d+-(\d+)$/)?.[1];
    const iteration = column === undefined ? {} : { iteration: String(this.pass.iterations[column]) };
    this.go({ problem: line.dataset.id, ...iteration });
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 };
    const sides = { ArrowLeft: -1, h: -1, ArrowRight: 1, l: 1 };
    if (event.key in steps && this.shown.length) {
      const place = Math.max(0, this.shown.indexOf(this.row)) + steps[event.key];
      this.go({ problem: this.shown[clamp(place, this.shown.length)].id });
    } else if (event.key in sides) {
      const column = clamp(this.column + sides[event.key], this.pass.iterations.length);
      this.go({ iteration: String(this.pass.iterations[column]) });
    } else if (event.key === "Enter") this.part("detail").focus();
    else return;
    event.preventDefault();
  }

  shortcut(event) {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.root.scrollIntoView();
      this.part("q").focus();
    } else if (event.key === "Escape" && (typing?.dataset.part || event.target.closest("[data-part]"))) {
      this.go({ q: "", kind: "", change: "any" });
      this.list.focus({ preventScroll: true });
    }
  }

  /** Return a problem's lower-cased text: id, prompt, tests, everything written and fed back. */
  async text(row) {
    if (!this.texts.has(row)) {
      const told = await this.told(row);
      const variants = told ? told.variants.flat().flatMap((each) => [each.solution, each.feedback]) : [];
      const facts = told ? [told.prompt, ...told.tests, told.reference] : [];
      this.texts.set(row, [row.id, row.title, ...facts, ...variants].join("\n").toLowerCase());
    }
    return this.texts.get(row);
  }

  /** Return what a problem's chunk holds of it; null for one that the page had no room for. */
  async told(row) {
    if (row.chunk === null) return null;
    if (!this.opened.has(row.chunk)) this.opened.set(row.chunk, unpack(this.chunks[row.chunk]));
    return (await this.opened.get(row.chunk))[row.id];
  }

  async detail() {
    const row = this.row;
    const told = row && (await this.told(row));
    // Another problem may have been chosen while this one was unpacked.
    if (row !== this.row) return;
    this.part("detail").replaceChildren(...(row ? describe(this, row, told) : []));
  }
}

function listKey({ run, pass, q, kind, change, order }) {
  return JSON.stringify([run, pass, q, kind, change, order]);
}

function tally(counts, wanted) {
  let [total, good] = [0, 0];
  for (let place = 0; place < counts.length; place += 2) {
    total += counts[place + 1];
    if (counts[place] === wanted) good += counts[place + 1];
  }
  return [total, good];
}

function has(counts, kinds) {
  return counts.some((kind, place) => place % 2 === 0 && kinds.has(kind));
}

function nameOf(kind) {
  return kind.error_type ?? kind.outcome ?? "not executed yet";
}

function percent(rate) {
  return `${Math.round(rate * 100)}%`;
}

function clamp(value, length) {
  return Math.max(0, Math.min(length - 1, value));
}

/** Return what gzipped JSON in base64 holds. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
