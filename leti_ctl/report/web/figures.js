// The figures: Vega draws them as SVG whose colours are CSS `light-dark()`, so that a change of theme redraws nothing.

const NARROW = 560;
const LEAST = 130;
const ON_PAPER = 690;
const MARGIN = 60;

/** Return the value with every `light-dark(a, b)` in it settled for the theme on the screen. */
function resolved(value) {
  const place = isDark() ? 1 : 0;
  const text = JSON.stringify(value).replace(/light-dark\(([^,()]+), ([^,()]+)\)/g, (_, ...colors) => colors[place]);
  return JSON.parse(text);
}

/**
 * Return a spec made to fit so many pixels: panels share them, and stand below each other where there are few.
 * `margin` is what axes and labels take beside each panel.
 */
function fitted(spec, width, margin) {
  // The title stands above the figure as a heading; exported files keep it.
  const { title, padding, ...rest } = spec;
  const share = (columns) => Math.max(LEAST, Math.floor(width / columns - margin));
  if (rest.facet && rest.spec) {
    const columns = width < NARROW ? 1 : (rest.columns ?? 1);
    return { ...rest, columns, spec: { ...rest.spec, width: share(columns) } };
  }
  return typeof rest.width === "number" ? { ...rest, width: share(1) } : rest;
}

/** Return a spec or configuration for few pixels: legends in two columns, labels cut short. */
function slim(value, name = "") {
  if (Array.isArray(value)) return value.map((item) => slim(item));
  if (!value || typeof value !== "object") return name === "labelLimit" ? Math.min(value, 110) : value;
  const copy = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, slim(item, key)]));
  return name === "legend" ? { ...copy, columns: 2, labelLimit: 110 } : copy;
}

function options(config) {
  // `ast`: expressions are interpreted, not compiled, so the page needs no `unsafe-eval`.
  return { ast: true, actions: false, renderer: "svg", config, defaultStyle: false, logLevel: 1, tooltip: { disableDefaultStyle: true } };
}

/** Draw a spec in an element so wide. */
async function drawAt(place, spec, config, width) {
  const told = width < NARROW ? slim(spec) : spec;
  const page = options({ ...(width < NARROW ? slim(config) : config), background: "transparent" });
  const first = await vegaEmbed(place, fitted(told, width, MARGIN), page);
  // How wide axes are is known once they are drawn; then the panels take exactly what is left.
  const columns = spec.facet && width >= NARROW ? (spec.columns ?? 1) : 1;
  const excess = place.querySelector("svg").width.baseVal.value - width;
  if (excess <= 0 && excess >= -12 * columns) return first;
  first.finalize();
  return vegaEmbed(place, fitted(told, width, MARGIN + excess / columns + 1), page);
}

/** Draw one figure where it stands, once more when its place becomes wider or narrower, and a copy for paper. */
async function draw(figure, spec, config) {
  const place = figure.querySelector(".draw");
  let [width, drawn] = [0, null];
  const fit = async () => {
    if (place.clientWidth === width || !place.clientWidth) return;
    width = place.clientWidth;
    drawn?.finalize();
    drawn = await drawAt(place, spec, config, width);
    const svg = place.querySelector("svg");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-labelledby", `${figure.id}-title`);
  };
  for (const kind of ["svg", "png"])
    figure.querySelector(`[data-save=${kind}]`).onclick = () => save(figure.id, spec, config, kind);
  try {
    await fit();
    // Printing waits for nobody, so what is to be printed has to be there before.
    const paper = make("div", { class: "paper", "aria-hidden": "true" });
    place.after(paper);
    await drawAt(paper, spec, config, figure.matches(".half") ? ON_PAPER / 2 - 12 : ON_PAPER);
  } catch (error) {
    place.textContent = `This figure could not be drawn: ${error.message}`;
    throw error;
  }
  let timer;
  new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(fit, 120);
  }).observe(place);
}

/** Save a figure as a file of its own: as it was designed, in the colours of the theme on the screen. */
async function save(name, spec, config, kind) {
  const holder = make("div", { "aria-hidden": "true", class: "unseen" });
  document.body.append(holder);
  try {
    const { view } = await vegaEmbed(holder, resolved(spec), options(resolved(config)));
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
  const text = /^(?:\s*[=+\-@]|[\t\r\n])/.test(String(value)) ? `'${value}` : String(value);
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

/** Draw every figure when it comes near the window, and the others when there is time: all are there to be printed. */
function drawFigures({ specs, config }) {
  const waiting = new Map();
  const soon = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => start(entry.target)),
    { rootMargin: "600px" },
  );
  async function start(figure) {
    const spec = waiting.get(figure);
    waiting.delete(figure);
    soon.unobserve(figure);
    if (spec) await draw(figure, spec, config);
  }
  for (const [name, spec] of Object.entries(specs)) {
    const figure = document.getElementById(`figure-${name}`);
    if (!figure) continue;
    waiting.set(figure, spec);
    dataTable(figure, rowsOf(spec));
    soon.observe(figure);
  }
  const next = () => setTimeout(async () => {
    const [figure] = waiting.keys();
    if (figure) await start(figure).then(next);
  }, 30);
  addEventListener("load", next);
  return () => Promise.all([...waiting.keys()].map(start));
}
