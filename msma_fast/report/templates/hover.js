// Exact values under the pointer or the arrow keys, for heat maps and charts.
const tip = byId("tip");

function showTip(lines, x, y) {
  tip.replaceChildren(...lines);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 16 + box.width > innerWidth - 8 ? x - box.width - 16 : x + 16;
  const top = y + 16 + box.height > innerHeight - 8 ? y - box.height - 12 : y + 16;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

function pair(name, value) {
  const line = make("div");
  line.append(make("span", "", name), make("span", "", value));
  return line;
}

const written = (value) => value === null ? "not estimated" : value.toFixed(3).replace("-", "\u2212");

// A figure's coordinates <-> the screen's.
function toFigure(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
}
function toScreen(svg, x, y) {
  const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  return [point.x, point.y];
}

function heatMap(svg, name, spec) {
  const cell = spec.side / spec.count, last = spec.count - 1;
  const across = shape("rect", { class: "mark cross", x: spec.left, width: spec.side, height: cell });
  const along = shape("rect", { class: "mark cross", y: spec.top, height: spec.side, width: cell });
  const box = shape("rect", { class: "mark", width: cell, height: cell, "stroke-width": 1.5 });
  const marks = [across, along, box];
  // The three faces of the information share one tooltip, so that no number is read without its null.
  const names = { mi: "estimate, nats", null: "null", excess: "excess" };
  const kinds = Object.keys(names).filter((kind) => kind in data.heat), information = name in names;
  let at = null;
  function show(row, column, x, y) {
    at = [row, column];
    across.setAttribute("y", spec.top + (last - row) * cell);
    along.setAttribute("x", spec.left + column * cell);
    box.setAttribute("x", spec.left + column * cell);
    box.setAttribute("y", spec.top + (last - row) * cell);
    svg.append(...marks);
    const lines = [make("b", "", `${data.layers[row]} × ${data.layers[column]}`)];
    if (!information) lines.push(make("span", "", written(data.heat[name][row][column])));
    else for (const kind of kinds) lines.push(pair(names[kind], written(data.heat[kind][row][column])));
    if (information && data.reasons[row][column]) lines.push(make("small", "", data.reasons[row][column]));
    showTip(lines, x, y);
  }
  function hide() { marks.forEach((mark) => mark.remove()); tip.hidden = true; }
  svg.addEventListener("pointermove", (event) => {
    const [x, y] = toFigure(svg, event);
    const column = Math.floor((x - spec.left) / cell), row = last - Math.floor((y - spec.top) / cell);
    if (column < 0 || row < 0 || column > last || row > last) hide();
    else show(row, column, event.clientX, event.clientY);
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const clip = (value) => Math.min(last, Math.max(0, value));
    const [row, column] = at ? [clip(at[0] + step[0]), clip(at[1] + step[1])] : [0, 0];
    show(row, column, ...toScreen(svg, spec.left + (column + 0.5) * cell, spec.top + (last - row + 0.5) * cell));
  });
  return hide;
}

function chart(svg, name, spec) {
  const line = shape("path", { class: "mark cross" });
  const lines = [...svg.querySelectorAll(".series")];
  let at = -1, lit = -1;
  function show(index, x, y, figureY) {
    at = index;
    line.setAttribute("d", `M${spec.xs[index]} ${spec.top}V${spec.bottom}`);
    svg.append(line);
    const here = spec.series.map((series, s) => [Math.abs((series.ys[index] ?? 1e9) - figureY), s]).filter(([far]) => far < 1e8);
    const head = make("b", "", spec.names[index]);
    if (!spec.nearest) {
      showTip([head, ...spec.series.map((series) => pair(series.name, series.texts[index]))], x, y);
    } else if (here.length) {
      lit = here.reduce((best, next) => next[0] < best[0] ? next : best)[1];
      const series = spec.series[lit];
      // A line is drawn only for a series that holds a value, so the drawn ones are counted apart.
      const drawn = spec.series.filter((other) => other.ys.some((value) => value !== null)).indexOf(series);
      svg.classList.add("dim");
      lines.forEach((path, i) => path.classList.toggle("lit", i === drawn));
      showTip([make("b", "", series.name), pair(spec.names[index], series.texts[index])], x, y);
    }
  }
  function hide() { line.remove(); svg.classList.remove("dim"); tip.hidden = true; }
  svg.addEventListener("pointermove", (event) => {
    const [x, y] = toFigure(svg, event);
    const far = spec.xs.map((place) => Math.abs(place - x));
    show(far.indexOf(Math.min(...far)), event.clientX, event.clientY, y);
  });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const index = Math.min(spec.xs.length - 1, Math.max(0, at + step[0]));
    let y = (spec.top + spec.bottom) / 2;
    if (spec.nearest) {
      // Up and down walk from one line to the next along the values at this place.
      const order = spec.series.map((series, s) => [series.ys[index], s]).filter(([value]) => value !== null).sort((a, b) => b[0] - a[0]);
      if (!order.length) return;
      const place = order.findIndex(([, s]) => s === lit);
      y = order[Math.min(order.length - 1, Math.max(0, place + step[1]))][0];
    }
    show(index, ...toScreen(svg, spec.xs[index], y), y);
  });
  return hide;
}

function initFigures() {
  for (const svg of document.querySelectorAll("svg.plot")) {
    const name = svg.dataset.figure, spec = data.figures[name];
    const hide = (spec.kind === "heat" ? heatMap : chart)(svg, name, spec);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
  }
}
