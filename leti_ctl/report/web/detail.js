// One problem at one iteration: its prompt and tests, how its samples ended, and the solutions themselves.

/** Return the nodes that describe a problem; `told` is null where the page had no room for its texts. */
function describe(browser, row, told) {
  const { pass, run, column } = browser;
  const iteration = pass.iterations[column];
  const query = browser.state.q.toLowerCase();
  return [
    write(make("h3", {}), row.title || row.id, query),
    write(make("p", { class: "where" }), `${row.id} · ${pass.name} of ${run.run}`),
    steps(browser, row),
    ...others(browser, row),
    ...(told ? question(told, run, query) : []),
    ...answers(browser, row, told, query),
    more(browser, row, told, iteration),
  ].filter((node) => node !== null);
}

function steps(browser, row) {
  const buttons = browser.pass.iterations.map((number, column) =>
    make(
      "button",
      {
        type: "button", "--rate": row.rates[column] ?? 0, "aria-pressed": String(column === browser.column),
        "aria-label": `iteration ${number}, ${row.rates[column] === null ? "no samples" : `${percent(row.rates[column])} passed`}`,
        onclick: () => {
          browser.go({ problem: row.id, iteration: String(number) });
        },
      },
      String(number),
      make("i", {}),
    ),
  );
  return make("div", { class: "steps", role: "group", "aria-label": "Iterations" }, ...buttons);
}

/** The same problem in other runs and passes, as strips to compare with. */
function others(browser, row) {
  const found = browser.catalog.runs.flatMap((run) =>
    run.passes
      .filter((pass) => pass !== browser.pass)
      .map((pass) => [run, pass, pass.problems.find((each) => each.id === row.id)])
      .filter(([, , same]) => same),
  );
  if (!found.length) return [];
  const lines = found.flatMap(([run, pass, same]) => [
    make("a", { href: `#browse?${new URLSearchParams({ run: run.run, pass: pass.name, problem: row.id })}` }, `${run.run}, ${pass.name}`),
    make("span", { class: "strip" }, ...same.rates.map((rate, column) =>
      make("span", { class: rate === null ? "cell none" : "cell", "--rate": rate ?? 0, title: `iteration ${pass.iterations[column]}: ${percent(rate ?? 0)}` }),
    )),
  ]);
  return [make("div", { class: "others" }, ...lines)];
}

function question(told, run, query) {
  const code = (text) => block(text, run.is_code, query);
  const folded = (title, text) => (text ? [make("details", {}, make("summary", {}, title), code(text))] : []);
  const facts = Object.keys(told.facts).length ? JSON.stringify(told.facts, null, 1) : "";
  return [
    make("h4", {}, "Prompt"), code(told.prompt),
    ...folded(`Tests (${told.tests.length})`, [told.setup, ...told.tests].filter(Boolean).join("\n")),
    ...folded("Program starts with", told.program_prompt),
    ...folded("Reference solution", told.reference),
    ...folded("Facts of the problem", facts),
  ];
}

function block(text, isCode, query, kind = "text") {
  const node = make("pre", { class: isCode ? kind : `${kind} wrap`, tabindex: "0" });
  return isCode ? highlight(node, text, query) : write(node, text, query);
}

function answers(browser, row, told, query) {
  const { catalog, column, pass } = browser;
  const counts = row.counts[column];
  const pairs = Array.from({ length: counts.length / 2 }, (_, place) => [catalog.kinds[counts[place * 2]], counts[place * 2 + 1]]);
  pairs.sort(([a], [b]) => (b.outcome === "passed") - (a.outcome === "passed"));
  const total = pairs.reduce((sum, [, count]) => sum + count, 0);
  const title = make("h4", {}, `Iteration ${pass.iterations[column]}: ${total} solutions, ${percent(row.rates[column] ?? 0)} passed`);
  const color = (kind, place) => (kind.outcome === "passed" ? "var(--pass)" : `color-mix(in oklab, var(--fail), var(--empty) ${Math.min(80, place * 18)}%)`);
  const bar = make("div", { class: "kinds", "aria-hidden": "true" });
  const legend = make("ul", { class: "legend" });
  pairs.forEach(([kind, count], place) => {
    const part = make("span");
    part.style.flex = String(count);
    part.style.background = color(kind, place);
    const swatch = make("i");
    swatch.style.background = color(kind, place);
    bar.append(part);
    legend.append(make("li", {}, swatch, write(make("span"), `${nameOf(kind)} ${count}`)));
  });
  const variants = told ? told.variants[column].map((each) => variant(browser, each, total, query)) : [];
  return [title, bar, legend, ...variants];
}

function variant(browser, each, total, query) {
  const kind = browser.catalog.kinds[each.kind];
  const passed = kind.outcome === "passed";
  const head = make(
    "header", {},
    write(make("span", { class: passed ? "chip good" : "chip bad" }), nameOf(kind)),
    make("span", { class: "times" }, each.samples > 1 ? `${each.samples} of ${total}` : `1 of ${total}`),
    make("span", {}, `sample ${each.sample}`),
    make("span", {}, `${each.tokens} tokens${each.finish_reason === "length" ? ", cut off at the length limit" : ""}`),
    make("span", {}, `reward token: ${each.reward_token}`),
  );
  if (each.answer !== null && each.answer !== undefined) head.append(write(make("span"), `answer ${each.answer}`));
  const article = make("article", { class: "variant" }, head, solution(browser, each, query));
  if (each.feedback) article.append(write(make("pre", { class: "text wrap feedback", tabindex: "0", "aria-label": "Feedback" }), each.feedback, query));
  return article;
}

function solution(browser, each, query) {
  const [ran, cut] = [each.solution.slice(0, each.ran), each.solution.slice(each.ran)];
  const node = block(ran.replace(/^\n+/, ""), browser.run.is_code, query);
  node.setAttribute("aria-label", "Solution");
  if (!ran.trim()) node.append(make("span", { class: "cutline" }, cut.trim() ? "nothing of it was run" : "empty"));
  if (cut.trim()) node.append(make("span", { class: "cutline" }, "cut off before it ran"), write(make("span", { class: "cut" }), cut, query));
  return node;
}

/** Say what the page does not show, and how to see it. */
function more(browser, row, told, iteration) {
  const left = told ? told.left_out[browser.column] : null;
  if (left === 0) return null;
  const command = `leti-ctl samples ${browser.run.run} --iteration ${iteration} --split ${browser.pass.name} --problem ${quote(row.id)}`;
  const text = told ? `${left} more samples are not in this page: ` : "The texts of this problem did not fit this page: ";
  return make("p", { class: "soft" }, text, write(make("code"), `${command} --limit 1000`));
}

function quote(word) {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
