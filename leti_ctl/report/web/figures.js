// The figures: Vega draws them as SVG in the page's own CSS variables, so that a change of theme redraws nothing.

const INK = { ink: "var(--ink)", soft: "var(--soft)", line: "var(--line)", paper: "var(--paper)" };
const CATEGORY = [1, 2, 3, 4, 5, 6, 7, 8].map((number) => `var(--c${number})`);

/** Return Vega's configuration in colours, which are variables on the page and values in an exported file. */
function configuration(font) {
  const text = { font, fontSize: 11.5 };
  return {
    background: "transparent",
    font,
    padding: 2,
    view: { stroke: null, continuousHeight: 230, discreteHeight: 230 },
    title: { ...text, color: INK.ink, fontSize: 13, fontWeight: 600, anchor: "start", subtitleColor: INK.soft, subtitleFont: font },
    axis: {
      labelFont: font, titleFont: font, labelFontSize: 11, titleFontSize: 11.5, titleFontWeight: 400, labelColor: INK.soft,
      titleColor: INK.soft, gridColor: INK.line, gridOpacity: 0.7, domainColor: INK.soft, tickColor: INK.soft, tickSize: 4, labelPadding: 4,
    },
    axisY: { domain: false, ticks: false },
    legend: { labelFont: font, titleFont: font, labelFontSize: 11.5, titleFontSize: 11.5, titleFontWeight: 400, labelColor: INK.ink, titleColor: INK.soft, symbolStrokeWidth: 2 },
    header: { labelFont: font, titleFont: font, labelColor: INK.ink, titleColor: INK.soft, labelFontSize: 12, titleFontSize: 11.5, titleFontWeight: 400 },
    range: { category: CATEGORY },
    line: { strokeWidth: 2 },
    rule: { color: INK.soft },
    text: { color: INK.ink, font },
  };
}

/** Return the value with every `var(--name)` in it replaced by what it stands for in this document. */
function resolved(value, style = getComputedStyle(document.documentElement)) {
  if (Array.isArray(value)) return value.map((item) => resolved(item, style));
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, resolved(item, style)]));
  if (typeof value !== "string" || !value.includes("var(--")) return value;
  return value.replace(/var\((--[\w-]+)\)/g, (_, name) => concrete(name));
}

/** Return a CSS variable as a colour that a canvas and another program understand: `light-dark()` is settled here. */
function concrete(name) {
  const probe = make("span", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function options(config) {
  // `ast`: expressions are interpreted, not compiled, so the page needs no `unsafe-eval`.
  return { ast: true, actions: false, renderer: "svg", config, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
}

/** Draw one figure where it stands and wire its tools. */
async function draw(figure, spec) {
  const place = figure.querySelector(".draw");
  const font = getComputedStyle(document.body).fontFamily;
  try {
    // The title stands above the figure as a heading; exported files keep it.
    const { title, ...untitled } = spec;
    const { view } = await vegaEmbed(place, untitled, options(configuration(font)));
    const svg = place.querySelector("svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-labelledby", `${figure.id}-title`);
    figure.querySelector("[data-save=svg]").onclick = () => save(figure.id, spec, "svg");
    figure.querySelector("[data-save=png]").onclick = () => save(figure.id, spec, "png");
    return view;
  } catch (error) {
    place.textContent = `This figure could not be drawn: ${error.message}`;
    throw error;
  }
}

/** Save a figure as a file of its own: colours settled, on the page's paper. */
async function save(name, spec, kind) {
  const font = "Helvetica, Arial, sans-serif";
  const config = resolved({ ...configuration(font), background: INK.paper });
  const holder = make("div", { "aria-hidden": "true", style: "position:absolute;left:-9999px;width:720px" });
  document.body.append(holder);
  try {
    const { view } = await vegaEmbed(holder, resolved(spec), options(config));
    const href = kind === "png" ? await view.toImageURL("png", 2) : svgAddress(await view.toSVG());
    make("a", { href, download: `${name}.${kind}` }).click();
    view.finalize();
  } finally {
    holder.remove();
  }
}

function svgAddress(text) {
  return URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
}

/** Fill a figure's table of data when it is opened, and offer it as CSV. */
function dataTable(figure, rows) {
  const details = figure.querySelector("details");
  const names = rows.length ? [...new Set(rows.flatMap((row) => Object.keys(row)))] : [];
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
    const body = rows.slice(0, 2000).map((row) => make("tr", {}, ...names.map((name) => cellOf(row[name]))));
    const table = make("table", { class: "data" }, make("thead", {}, head), make("tbody", {}, ...body));
    details.append(make("div", { class: "scroll bounded", tabindex: "0", role: "region", "aria-label": "Data of the figure" }, table));
  });
  figure.querySelector("[data-save=csv]").onclick = () => {
    const lines = [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(quoted).join(","));
    const href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    make("a", { href, download: `${figure.id}.csv` }).click();
  };
}

function cellOf(value) {
  const isNumber = typeof value === "number";
  const text = value === null || value === undefined ? "" : isNumber ? String(Number(value.toPrecision(6))) : String(value);
  return write(make("td", isNumber ? { class: "number" } : {}), text);
}

// A spreadsheet runs what begins like a formula; texts here were written by a model.
function quoted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return the rows a Vega-Lite spec draws from, wherever in it they stand. */
function rowsOf(spec) {
  const named = Object.values(spec.datasets ?? {}).flat();
  if (named.length) return named;
  if (Array.isArray(spec.data?.values)) return spec.data.values;
  const inner = [...(spec.layer ?? []), ...(spec.hconcat ?? []), ...(spec.vconcat ?? []), ...(spec.spec ? [spec.spec] : [])];
  return inner.flatMap(rowsOf);
}

/** Draw every figure when it comes near the window: a page with many opens at once. */
function drawFigures(specs) {
  const waiting = new Map();
  const soon = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => start(entry.target)),
    { rootMargin: "800px" },
  );
  function start(figure) {
    const spec = waiting.get(figure);
    waiting.delete(figure);
    soon.unobserve(figure);
    return spec ? draw(figure, spec) : undefined;
  }
  for (const [name, spec] of Object.entries(specs)) {
    const figure = document.getElementById(`figure-${name}`);
    if (!figure) continue;
    waiting.set(figure, spec);
    dataTable(figure, rowsOf(spec));
    soon.observe(figure);
  }
  const all = () => Promise.all([...waiting.keys()].map(start));
  addEventListener("beforeprint", all);
  return all;
}
