// The searchable list of tokens, each with a small curve of how long its neighbours stay the same token.
function explorerList(model, choose, step) {
  const list = byId("tokens"), find = byId("find"), found = byId("found");
  const texts = [];
  const items = Array.from({ length: model.tokens }, (_, token) => {
    const { before, word, after } = model.parts(model.rowOf(token));
    const item = make("li"), words = make("div");
    item.id = `token-${token}`;
    item.setAttribute("role", "option");
    const name = make("b"), context = make("span");
    name.append(make("bdi", "", word));
    // Little before the token, so that the token itself is never cut off.
    context.textContent = `${before.slice(-16).replace(/^\S*\s/, "…")}${word}${after}`;
    words.append(name, context);
    words.style.minWidth = "0";
    item.append(words, curve(model.shares[token]));
    texts.push([word.toLowerCase(), `${before}${word}${after}`.toLowerCase()]);
    item.addEventListener("click", () => choose(token));
    return item;
  });
  function curve(shares) {
    const svg = shape("svg", { viewBox: "0 0 48 16", preserveAspectRatio: "none", "aria-hidden": "true" });
    const x = (i) => (48 * i / Math.max(1, shares.length - 1)).toFixed(1);
    svg.append(shape("path", { d: `M0 16${shares.map((share, i) => `L${x(i)} ${(15 - 15 * share).toFixed(1)}`).join("")}L48 16z` }));
    return svg;
  }

  let shown = [];
  function filter() {
    const words = find.value.toLowerCase().trim();
    // The token itself first, then those that have the words in their context; each in the order of the texts.
    const rank = ([word, context]) => word === words ? 0 : word.startsWith(words) ? 1 : context.includes(words) ? 2 : 3;
    const ranks = texts.map(rank);
    shown = items.map((_, token) => token).filter((token) => words === "" || ranks[token] < 3);
    if (words !== "") shown.sort((a, b) => ranks[a] - ranks[b] || a - b);
    list.replaceChildren(...shown.map((token) => items[token]));
    list.scrollTop = 0;
    found.textContent = words === "" ? `${model.tokens} tokens` : `${shown.length} of ${model.tokens} tokens`;
  }
  find.addEventListener("input", filter);
  filter();

  let current = -1;
  function keys(event) {
    const place = shown.indexOf(current);
    const target = { ArrowDown: place + 1, ArrowUp: Math.max(0, place - 1), Home: 0, End: shown.length - 1 }[event.key];
    if (event.target === find && !["ArrowDown", "ArrowUp", "Enter"].includes(event.key)) return;
    if (event.target === list && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      step(event.key === "ArrowRight" ? 1 : -1);
    } else if (event.key === "Enter" && shown.length) {
      choose(place < 0 ? shown[0] : current);
    } else if (target !== undefined && shown.length) {
      event.preventDefault();
      choose(shown[Math.min(target, shown.length - 1)]);
    }
  }
  list.addEventListener("keydown", keys);
  find.addEventListener("keydown", keys);

  return function mark(token) {
    if (current >= 0) items[current].removeAttribute("aria-selected");
    current = token;
    const item = items[token];
    item.setAttribute("aria-selected", "true");
    if (!shown.includes(token)) return;
    list.setAttribute("aria-activedescendant", item.id);
    // Scrolls the list alone; scrollIntoView would move the page as well.
    const box = list.getBoundingClientRect(), own = item.getBoundingClientRect();
    if (own.top < box.top) list.scrollTop -= box.top - own.top + 8;
    if (own.bottom > box.bottom) list.scrollTop += own.bottom - box.bottom + 8;
  };
}
