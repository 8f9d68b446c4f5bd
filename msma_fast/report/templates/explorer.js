// The neighbour explorer: one token, one layer, its neighbours; everything else on screen follows from these two.
function initExplorer() {
  if (!data.explorer) return;
  const model = explorerModel(data.explorer), last = model.layers - 1;
  const slider = byId("layer"), strip = byId("strip"), play = byId("play");
  let [token, layer] = model.beginning(), timer = 0, touched = false;

  byId("explorer").hidden = false;
  slider.max = last;
  byId("first").textContent = data.layers[0];
  byId("last").textContent = data.layers[last];
  strip.parentElement.style.setProperty("--count", Math.max(2, model.layers));
  const bars = data.layers.map((name, index) => {
    const bar = make("div"), line = make("i");
    line.style.bottom = `${100 * model.mean[index]}%`;
    bar.title = name;
    bar.append(make("b"), line);
    return bar;
  });
  strip.append(...bars);

  const near = explorerNear(model);
  const mark = explorerList(model, (chosen) => { token = chosen; show(true); }, (step) => { touch(); go(layer + step); });
  const percent = (value) => `${Math.round(100 * value)} %`;

  function show(newToken) {
    if (newToken) {
      const { before, word, after } = model.parts(model.rowOf(token));
      const start = before.length > 90 ? before.indexOf(" ", before.length - 90) : 0;
      byId("passage").replaceChildren(start ? "…" : "", before.slice(Math.max(0, start)), make("mark", "", word), after);
      bars.forEach((bar, index) => { bar.firstChild.style.height = percent(model.shares[token][index]).replace(" ", ""); });
      mark(token);
    }
    bars.forEach((bar, index) => { if (index === layer) bar.dataset.now = ""; else delete bar.dataset.now; });
    slider.value = layer;
    slider.setAttribute("aria-valuetext", data.layers[layer]);
    byId("name").textContent = data.layers[layer].replace(/^./, (first) => first.toUpperCase());
    const all = model.neighbors(layer, token), same = all.filter((one) => one.same).length;
    byId("share").textContent = `${same} of ${all.length} neighbours are the same token; the average is ${percent(model.mean[layer])}`;
    near(token, layer, !newToken && !calm.matches);
  }

  function go(index) {
    const next = Math.min(last, Math.max(0, index));
    if (next !== layer) { layer = next; show(false); }
  }
  function touch() { touched = true; stop(); }
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.setAttribute("aria-pressed", "false");
    play.lastElementChild.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    // The first press tells the story from its beginning; later ones go on from where the reader is.
    if (!touched || layer === last) go(0);
    touched = true;
    play.setAttribute("aria-pressed", "true");
    play.lastElementChild.textContent = "Pause";
    timer = setInterval(() => { if (layer === last) stop(); else go(layer + 1); }, 900);
  });
  slider.addEventListener("input", () => { touch(); go(Number(slider.value)); });
  strip.addEventListener("click", (event) => {
    const bar = bars.findIndex((one) => one.contains(event.target));
    if (bar >= 0) { touch(); go(bar); }
  });
  show(true);
}
