// What every part of the page uses: the data, elements made without markup, and the theme.
const data = JSON.parse(document.getElementById("report-data").textContent);
const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Text from the data only ever becomes text nodes, never markup.
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function initTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)"), button = byId("theme");
  let stored = null;
  try { stored = localStorage.getItem("msma-fast-theme"); } catch (error) { /* a page from a file may have no storage */ }
  if (stored === "light" || stored === "dark") root.dataset.theme = stored;
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => button.setAttribute("aria-label", now() === "dark" ? "Use the light theme" : "Use the dark theme");
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("msma-fast-theme", root.dataset.theme); } catch (error) { /* the choice lasts for this visit */ }
    label();
  });
  dark.addEventListener("change", label);
  button.hidden = false;
  label();
}

function initRail() {
  const links = new Map([...document.querySelectorAll(".rail a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map(byId);
  const update = () => {
    const line = innerHeight * 0.35;
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 4;
    const passed = sections.filter((section) => section.getBoundingClientRect().top < line);
    const current = atEnd ? sections[sections.length - 1] : passed[passed.length - 1] || sections[0];
    for (const [id, link] of links) {
      if (id === current.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", update, { passive: true });
  update();
}

function initCopy() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const text = data.copy[button.dataset.copy];
      let done = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch (error) {
        const area = make("textarea");
        area.value = text;
        document.body.append(area);
        area.select();
        done = document.execCommand("copy");
        area.remove();
        button.focus();
      }
      button.textContent = done ? "Copied" : "Copying was refused";
      setTimeout(() => { button.textContent = label; }, 1800);
    });
  }
}
