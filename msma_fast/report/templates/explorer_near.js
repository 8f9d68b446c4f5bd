// The list of neighbours. A neighbour that stays glides to its new place; others fade in and out.
function explorerNear(model) {
  const list = byId("near"), shown = new Map();
  const number = (value) => value === 0 ? "0" : value >= 100 ? value.toFixed(0) : value.toPrecision(3);

  function entry(row) {
    const { before, word, after, text } = model.parts(row);
    const item = make("li"), line = make("div", "line"), left = make("span", "before");
    const cut = Math.max(0, before.length - 34), space = before.indexOf(" ", cut);
    const early = before.slice(0, space < 0 ? cut : space);
    if (early) left.append(make("span", "early", early));
    left.append(make("bdi", "late", before.slice(early.length)));
    const name = make("bdi", "word", word);
    line.append(left, name, make("bdi", "after", after), make("span", "hush"));
    item.append(make("span", "far"), line);
    item.title = text === null ? "" : `text ${text}`;
    return item;
  }

  return function draw(token, layer, animate) {
    const near = model.neighbors(layer, token);
    const was = new Map([...shown].map(([row, item]) => [row, item.getBoundingClientRect().top]));
    const base = list.getBoundingClientRect().top;
    const wanted = new Set(near.map((one) => one.row));
    for (const [row, item] of shown) {
      if (wanted.has(row)) continue;
      shown.delete(row);
      if (animate) leave(item, was.get(row) - base);
      else item.remove();
    }
    near.forEach((one, place) => {
      let item = shown.get(one.row);
      if (!item) shown.set(one.row, item = entry(one.row));
      item.className = one.same ? "same" : "other";
      item.querySelector(".far").textContent = number(one.distance);
      item.querySelector(".far").style.setProperty("--far", Math.min(1, one.distance / model.farthest[token]));
      item.querySelector(".hush").textContent = one.same ? " (the same token)" : " (another token)";
      if (list.children[place] !== item) list.insertBefore(item, list.children[place] || null);
    });
    if (!animate) return;
    for (const [row, item] of shown) {
      item.getAnimations().forEach((animation) => animation.id === "move" && animation.cancel());
      const top = item.getBoundingClientRect().top, ease = "cubic-bezier(.25, .1, .2, 1)";
      const frames = was.has(row)
        ? [{ transform: `translateY(${was.get(row) - top}px)` }, { transform: "none" }]
        : [{ opacity: 0, transform: "translateY(10px)" }, { opacity: 1, transform: "none" }];
      item.animate(frames, { duration: 480, easing: ease, id: "move", delay: was.has(row) ? 0 : 90, fill: "backwards" });
    }
  };

  // A leaving neighbour keeps its place on the screen while it fades, outside the flow of the list.
  function leave(item, top) {
    item.getAnimations().forEach((animation) => animation.cancel());
    const ghost = item.cloneNode(true);
    item.remove();
    ghost.setAttribute("aria-hidden", "true");
    Object.assign(ghost.style, { position: "absolute", left: 0, right: 0, top: `${top}px`, pointerEvents: "none" });
    list.parentElement.style.position = "relative";
    list.append(ghost);
    ghost.animate([{ opacity: 1 }, { opacity: 0 }], { duration: 220, fill: "forwards" }).onfinish = () => ghost.remove();
  }
}
