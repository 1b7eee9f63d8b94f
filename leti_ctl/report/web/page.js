// What the page does once it is read: theme, navigation, figures, browser.

function data(id) {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
}

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : systemDark.matches;
}

function themes() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const tell = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("leti-theme", root.dataset.theme);
    tell();
  });
  systemDark.addEventListener("change", tell);
  const kept = remember("leti-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  tell();
}

// Some browsers refuse storage to a page opened from a file.
function remember(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    /* The theme is then the system's again next time. */
  }
  return null;
}

function navigation() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link, id) => (id === entry.target.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
      }
    },
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("section[id]").forEach((section) => seen.observe(section));
}

themes();
navigation();
const drawAll = drawFigures(data("figures-data"));
const catalog = data("catalog-data");
let browser = null;
if (catalog) {
  const chunks = [...document.querySelectorAll("script[data-chunk]")].map((element) => element.textContent);
  browser = new Browser(document.getElementById("browse"), catalog, chunks);
}
// For whoever drives the page from outside: draws what is not drawn yet, and resolves when all of it is there.
window.letiReport = { drawAll, browser };
