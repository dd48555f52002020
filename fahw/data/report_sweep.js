// The page of a sweep: a table that sorts and filters, plots that follow it, and what lies behind a point.
// Nothing is fetched: all data stand in the page, in the element `sweep-data`.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("sweep-data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const PAGE = 50;
  const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"];
  const RULE_COLOURS = { bp: "var(--ink)", fa: "#D55E00", usf: "#0072B2", brsf: "#56B4E9", frsf: "#009E73", dfa: "#E69F00" };
  const columns = data.columns.map((column, index) => ({ ...column, index }));
  const column = (id) => columns.find((found) => found.id === id);
  const rule = column("rule");
  const others = columns.filter((found) => found.kind === "axis" && found !== rule);
  const axes = rule.kind === "axis" ? [rule, ...others] : others;
  const figures = columns.filter((found) => found.kind === "figure");
  const points = data.rows.map((cells, index) => ({ cells, number: data.numbers[index] }));
  const state = { words: "", only: {}, sort: null, down: false, page: 0, shown: points };

  // --- values -------------------------------------------------------------------------------------------------

  const raw = (point, at) => (at ? point.cells[at.index] : null);
  const coded = (at) => at.levels !== undefined && !at.number;
  const level = (point, at) => (coded(at) ? at.levels[raw(point, at)] : raw(point, at));
  const scaled = (point, at) => {
    const value = raw(point, at);
    return value === null ? null : value * (at.factor || 1);
  };
  const grouped = (value, digits) => (!Number.isFinite(value)) ? "–" : value.toFixed(digits).replace("-", "−").replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, "\u202f");
  const plain = (value) => grouped(value, Number.isInteger(value) ? 0 : Math.max(0, 4 - Math.ceil(Math.log10(Math.abs(value) + 1e-12)))).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  const shown = (value, at) => (value === null || value === undefined ? "–" : at.digits === undefined ? plain(value) : grouped(value, at.digits));
  const text = (point, at) => (coded(at) ? level(point, at) : shown(at.factor ? scaled(point, at) : raw(point, at), at));
  const titled = (at) => (at.unit ? `${at.label} [${at.unit}]` : at.label);
  const levelsOf = (at, among) => {
    const found = [...new Set(among.map((point) => raw(point, at)))];
    return at.number ? found.sort((a, b) => a - b) : found.sort((a, b) => a - b);
  };
  const levelText = (value, at) => (coded(at) ? at.levels[value] : plain(value));
  const named = (point) => axes.map((at) => `${at.label} ${text(point, at)}`).join(", ");
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // --- elements -----------------------------------------------------------------------------------------------

  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };
  const draw = (parent, name, attributes = {}, content = null) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (content !== null) node.textContent = content;
    parent.append(node);
    return node;
  };
  const canvas = (place, width, height, label) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    place.append(svg);
    return svg;
  };
  const choice = (label, options, chosen, change) => {
    const select = make("select", { onchange: () => change(select.value), "aria-label": label });
    for (const [value, name] of options) select.append(make("option", { value, ...(value === chosen ? { selected: "" } : {}) }, name));
    return make("label", { class: "choice" }, `${label} `, select);
  };
  const tip = make("div", { class: "tip", role: "status", hidden: "" });
  document.body.append(tip);
  const hover = (node, lines) => {
    const place = (event) => {
      tip.hidden = false;
      tip.replaceChildren(...lines().map((line) => make("div", {}, line)));
      const box = event.type === "focus" ? node.getBoundingClientRect() : { right: event.clientX, bottom: event.clientY };
      const wide = tip.offsetWidth;
      tip.style.left = `${Math.max(4, Math.min(box.right + 14, innerWidth - wide - 8))}px`;
      tip.style.top = `${Math.max(4, Math.min(box.bottom + 12, innerHeight - tip.offsetHeight - 8))}px`;
    };
    for (const event of ["mouseenter", "mousemove", "focus"]) node.addEventListener(event, place);
    for (const event of ["mouseleave", "blur"]) node.addEventListener(event, () => { tip.hidden = true; });
  };
  const opens = (node, point) => {
    node.addEventListener("click", () => open(point));
    node.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(point); } });
  };

  // --- colours ------------------------------------------------------------------------------------------------

  const colourOf = (point) => {
    const name = level(point, rule);
    return RULE_COLOURS[name] || COLOURS[raw(point, rule) % COLOURS.length];
  };
  const mix = (stops, share) => {
    const at = Math.max(0, Math.min(1, share)) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((part, i) => Math.round(part + (stops[low + 1][i] - part) * (at - low)));
  };
  const SEQUENCE = [[0, 32, 77], [60, 77, 110], [124, 123, 120], [188, 175, 111], [255, 234, 70]]; // cividis
  const DIVERGING = [[178, 88, 6], [241, 163, 64], [247, 247, 247], [103, 169, 207], [5, 80, 140]];
  const css = (colour) => `rgb(${colour.join(",")})`;
  const inkOn = (colour) => (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 ? "#111" : "#fff");

  // --- scales -------------------------------------------------------------------------------------------------

  const ticks = (low, high, log) => {
    if (log) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
        for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
      return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
    }
    const rough = (high - low) / 6 || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
    const found = [];
    for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n += 1) found.push(n * step);
    return found;
  };
  const scale = (values, from, to, log = false) => {
    let low = Math.min(...minmax(values)), high = Math.max(...minmax(values));
    if (log) { low /= 1.08; high *= 1.08; } else { const pad = (high - low || Math.abs(high) || 1) * 0.05; low -= pad; high += pad; }
    const f = log ? Math.log : (value) => value;
    const place = (value) => from + ((f(value) - f(low)) / (f(high) - f(low))) * (to - from);
    return { place, ticks: ticks(low, high, log) };
  };
  const minmax = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const spans = (values) => { const [low, high] = minmax(values); return low > 0 && high / low > 20; };

  // --- accuracy against expense -------------------------------------------------------------------------------

  const MARKS = [
    (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
    (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    (x, y, r) => `M${x},${y - 1.3 * r}L${x + 1.2 * r},${y + r}H${x - 1.2 * r}z`,
    (x, y, r) => `M${x},${y - 1.4 * r}L${x + 1.4 * r},${y}L${x},${y + 1.4 * r}L${x - 1.4 * r},${y}z`,
    (x, y, r) => `M${x},${y + 1.3 * r}L${x + 1.2 * r},${y - r}H${x - 1.2 * r}z`,
    (x, y, r) => `M${x - r},${y - r}L${x + r},${y + r}M${x - r},${y + r}L${x + r},${y - r}`,
  ];
  const markOf = (point) => MARKS[raw(point, rule) % MARKS.length];
  const front = (list, x, y) => {
    const better = (at) => (at.good < 0 ? 1 : -1);
    const sorted = [...list].sort((a, b) => better(x) * (raw(a, x) - raw(b, x)) || better(y) * (raw(a, y) - raw(b, y)));
    const found = [];
    let best = Infinity;
    for (const point of sorted) {
      const value = better(y) * raw(point, y);
      if (value < best) { best = value; found.push(point); }
    }
    return found;
  };
  const frame = (svg, x, y, sx, sy, box) => {
    const plainTick = (at) => (value) => plain(Number(value.toPrecision(6)));
    for (const value of sx.ticks) {
      const at = sx.place(value);
      draw(svg, "line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom });
      draw(svg, "text", { class: "tick", x: at, y: box.bottom + 16, "text-anchor": "middle" }, plainTick(x)(value));
    }
    for (const value of sy.ticks) {
      const at = sy.place(value);
      draw(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at });
      draw(svg, "text", { class: "tick", x: box.left - 6, y: at + 4, "text-anchor": "end" }, plainTick(y)(value));
    }
    draw(svg, "text", { class: "label", x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" }, titled(x));
    draw(svg, "text", { class: "label", x: 14, y: (box.top + box.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(box.top + box.bottom) / 2})` }, titled(y));
  };
  const legend = (place, list) => {
    const box = make("div", { class: "legend" });
    for (const code of levelsOf(rule, list)) {
      const point = list.find((found) => raw(found, rule) === code);
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", "0 0 14 14");
      draw(svg, "path", { d: markOf(point)(7, 7, 4), fill: colourOf(point), stroke: colourOf(point) });
      box.append(make("span", {}, svg, ` ${levelText(code, rule)}`));
    }
    place.append(box);
  };
  const scatter = { id: "plot-front", x: "energy_pj_per_sample", y: "accuracy_pct_mean" };
  scatter.draw = (place) => {
    const possible = figures.filter((at) => at.good);
    if (possible.length < 2) return;
    if (!column(scatter.y)) scatter.y = column("area_mm2") ? "area_mm2" : possible[1].id;
    if (!column(scatter.x)) scatter.x = possible[0].id;
    const options = possible.map((at) => [at.id, at.label]);
    place.append(make("div", { class: "controls" },
      choice("across", options, scatter.x, (id) => { scatter.x = id; redraw(scatter); }),
      choice("up", options, scatter.y, (id) => { scatter.y = id; redraw(scatter); })));
    const x = column(scatter.x), y = column(scatter.y);
    const list = state.shown.filter((point) => raw(point, x) !== null && raw(point, y) !== null);
    if (!list.length) { place.append(make("p", { class: "note" }, "No point that is shown has both.")); return; }
    const box = { left: 70, right: 980, top: 12, bottom: 400 };
    const svg = canvas(place, 1000, 445, `${y.label} against ${x.label}`);
    const xs = list.map((point) => scaled(point, x)), ys = list.map((point) => scaled(point, y));
    const sx = scale(xs, box.left, box.right, spans(xs)), sy = scale(ys, box.bottom, box.top, y.unit !== "%" && spans(ys));
    frame(svg, x, y, sx, sy, box);
    const best = front(list, x, y);
    draw(svg, "polyline", { class: "front", points: best.map((point) => `${sx.place(scaled(point, x))},${sy.place(scaled(point, y))}`).join(" ") });
    const first = new Set(best);
    for (const point of [...list.filter((found) => !first.has(found)), ...best]) mark(svg, point, sx.place(scaled(point, x)), sy.place(scaled(point, y)), first.has(point), [x, y]);
    best.forEach((point, index) => draw(svg, "text", { class: "tick strong", x: sx.place(scaled(point, x)) + 7, y: sy.place(scaled(point, y)) - 7 }, String(index + 1)));
    legend(place, list);
    place.append(listOf(best, x, y));
  };
  const mark = (svg, point, x, y, strong, at) => {
    const colour = colourOf(point);
    const node = draw(svg, "path", { class: strong ? "mark best" : "mark", d: markOf(point)(x, y, strong ? 5.5 : 3.5), fill: colour, stroke: colour, "data-point": point.number });
    if (strong) { node.setAttribute("tabindex", "0"); node.setAttribute("role", "button"); node.setAttribute("aria-label", named(point)); }
    hover(node, () => [named(point), ...at.map((found) => `${found.label} ${text(point, found)}${found.unit ? ` ${found.unit}` : ""}`)]);
    opens(node, point);
  };
  const listOf = (best, x, y) => {
    const body = best.map((point, index) => {
      const row = make("tr", { "data-point": point.number, tabindex: "0" }, make("td", { class: "number" }, String(index + 1)), make("td", {}, named(point)),
        make("td", { class: "number" }, text(point, x)), make("td", { class: "number" }, text(point, y)));
      opens(row, point);
      return row;
    });
    return make("div", { class: "table-wrap" }, make("table", { class: "points" }, make("caption", {}, "The front: no other point is better in both"),
      make("thead", {}, make("tr", {}, make("th", { class: "number" }, "no."), make("th", {}, "point"), make("th", { class: "number" }, titled(x)), make("th", { class: "number" }, titled(y)))),
      make("tbody", {}, ...body)));
  };

  // --- maps over two axes -------------------------------------------------------------------------------------

  const NONE = "(one map)";
  const varied = () => axes.filter((at) => at.id !== "transport" && levelsOf(at, points).length > 1 && levelsOf(at, points).length <= 64);
  const map = (id, quantities, panelsFirst) => {
    const self = { id, quantities, x: null, y: null, panel: panelsFirst, quantity: null, rule: null };
    self.draw = (place) => {
      const possible = self.quantities.filter((name) => column(name));
      const names = varied().filter((at) => at.id !== "rule");
      if (!possible.length || names.length < 2) { place.closest("figure").hidden = true; return; }
      self.quantity ??= possible[0];
      prepare(self, names);
      const options = names.map((at) => [at.id, at.label]);
      const chosen = (key) => (value) => { self[key] = value; redraw(self); };
      const rules = levelsOf(rule, points).filter((code) => points.some((point) => raw(point, rule) === code && raw(point, column(self.quantity)) !== null));
      if (!rules.includes(Number(self.rule))) self.rule = String(rules[rules.length - 1]);
      const panels = [["rule", "rule"], ...options.filter(([name]) => name !== self.x && name !== self.y), [NONE, NONE]];
      place.append(make("div", { class: "controls" },
        choice("colour", possible.map((name) => [name, column(name).label]), self.quantity, chosen("quantity")),
        choice("across", options, self.x, chosen("x")), choice("up", options, self.y, chosen("y")),
        choice("a map per", panels, self.panel, chosen("panel")),
        ...(self.panel === "rule" ? [] : [choice("rule", rules.map((code) => [String(code), levelText(code, rule)]), self.rule, chosen("rule"))])));
      maps(self, place, self.panel === "rule" ? rules : null);
    };
    return self;
  };
  const prepare = (self, names) => {
    const has = (name) => names.find((at) => at.id === name);
    self.x ??= (has("chip.precision.feedback") || has("batch_size") || names[0]).id;
    if (!self.y || self.y === self.x) self.y = (names.find((at) => at.id === "chip.precision.weight" && at.id !== self.x) || names.find((at) => at.id !== self.x && at.number) || names.find((at) => at.id !== self.x)).id;
    if (self.panel === self.x || self.panel === self.y) self.panel = "rule";
  };
  const maps = (self, place, rules) => {
    const at = { x: column(self.x), y: column(self.y), value: column(self.quantity) };
    const usable = state.shown.filter((point) => raw(point, at.value) !== null);
    const list = self.panel === "rule" ? usable : usable.filter((point) => raw(point, rule) === Number(self.rule));
    const by = self.panel === "rule" ? rule : self.panel === NONE ? null : column(self.panel);
    const groups = by ? levelsOf(by, list).map((value) => [`${by === rule ? "" : `${by.label} `}${levelText(value, by)}`, list.filter((point) => raw(point, by) === value)]) : [[levelText(Number(self.rule), rule), list]];
    const range = minmax(list.map((point) => scaled(point, at.value)));
    const levels = { x: levelsOf(at.x, list), y: levelsOf(at.y, list) };
    const box = make("div", { class: "panels" });
    for (const [title, members] of groups) panel(box, title, members, at, levels, range);
    if (!list.length) box.append(make("p", { class: "note" }, "No point that is shown has this value."));
    place.append(box);
    if (list.length) place.append(key(at.value, range));
  };
  const panel = (box, title, members, at, levels, range) => {
    const size = { cell: 58, row: 34, left: 62, top: 24 };
    const wide = size.left + levels.x.length * size.cell + 8, high = size.top + levels.y.length * size.row + 44;
    const holder = make("div", { class: "panel" });
    holder.style.maxWidth = `${Math.max(230, wide * 1.25)}px`;
    box.append(holder);
    const svg = canvas(holder, wide, high, `${at.value.label} over ${at.x.label} and ${at.y.label}: ${title}`);
    draw(svg, "text", { class: "label strong", x: size.left, y: 15 }, title);
    const grid = levels.y.map((y) => levels.x.map((x) => members.filter((point) => raw(point, at.x) === x && raw(point, at.y) === y)));
    const place = (i, j) => ({ x: size.left + i * size.cell, y: size.top + (levels.y.length - 1 - j) * size.row });
    grid.forEach((line, j) => line.forEach((found, i) => cell(svg, found, place(i, j), size, at, range)));
    if (at.value.saving) breakEven(svg, grid.map((line) => line.map((found) => (found.length ? mean(found.map((point) => scaled(point, at.value))) : null))), place, size);
    grid.forEach((line, j) => line.forEach((found, i) => valueOf(svg, found, place(i, j), size, at, range)));
    levels.x.forEach((value, i) => draw(svg, "text", { class: "tick", x: place(i, 0).x + size.cell / 2, y: high - 28, "text-anchor": "middle" }, levelText(value, at.x)));
    levels.y.forEach((value, j) => draw(svg, "text", { class: "tick", x: size.left - 5, y: place(0, j).y + size.row / 2 + 4, "text-anchor": "end" }, levelText(value, at.y)));
    draw(svg, "text", { class: "label", x: size.left, y: high - 8 }, titled(at.x));
    draw(svg, "text", { class: "label", x: 11, y: high / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${high / 2})` }, titled(at.y));
  };
  const shareOf = (value, at, range) => {
    if (!at.saving) return (value - range[0]) / (range[1] - range[0] || 1);
    const most = Math.max(Math.abs(range[0]), Math.abs(range[1])) || 1;
    return 0.5 + 0.5 * Math.sign(value) * Math.sqrt(Math.abs(value) / most); // roots: small savings next to large losses stay visible
  };
  const undecided = (found, at) => at.value.id === "saving_per_step" && found.some((point) => level(point, column("winner")) === "undecided");
  const digitsFor = (range) => Math.max(0, Math.min(4, 3 - Math.ceil(Math.log10(Math.max(Math.abs(range[0]), Math.abs(range[1]), 1e-9)))));
  const cell = (svg, found, place, size, at, range) => {
    if (!found.length) return;
    const values = found.map((point) => scaled(point, at.value)), value = mean(values);
    const colour = mix(at.value.saving ? DIVERGING : SEQUENCE, shareOf(value, at.value, range));
    const group = draw(svg, "g", { class: "cell", "data-point": found[0].number, "data-value": value, tabindex: "0", role: "button", "aria-label": `${at.x.label} ${text(found[0], at.x)}, ${at.y.label} ${text(found[0], at.y)}: ${shown(value, at.value)} ${at.value.unit || ""}` });
    draw(group, "rect", { x: place.x, y: place.y, width: size.cell - 1.5, height: size.row - 1.5, fill: css(colour) });
    const [low, high] = minmax(values);
    hover(group, () => [`${at.x.label} ${text(found[0], at.x)}, ${at.y.label} ${text(found[0], at.y)}`, `${at.value.label} ${shown(value, at.value)} ${at.value.unit || ""}`,
      ...(found.length > 1 ? [`mean of ${found.length} points, ${shown(low, at.value)} to ${shown(high, at.value)}`] : []), ...(undecided(found, at) ? ["undecided within the uncertainty of the constants"] : [])]);
    opens(group, found[0]);
  };
  const valueOf = (svg, found, place, size, at, range) => {
    if (!found.length) return;
    const value = mean(found.map((point) => scaled(point, at.value)));
    const colour = mix(at.value.saving ? DIVERGING : SEQUENCE, shareOf(value, at.value, range));
    const style = `fill:${inkOn(colour)};stroke:${css(colour)}`;
    draw(svg, "text", { class: "value", x: place.x + size.cell / 2, y: place.y + size.row / 2 + 4, "text-anchor": "middle", style }, `${shown(value, { digits: digitsFor(range) })}${undecided(found, at) ? " ?" : ""}`);
  };
  const breakEven = (svg, grid, place, size) => {
    // Between neighbours of opposite sign the line crosses where interpolation gives zero; it runs through the middles of cells.
    const centre = (i, j) => ({ x: place(i, j).x + size.cell / 2, y: place(i, j).y + size.row / 2, v: grid[j][i] });
    for (let j = 0; j + 1 < grid.length; j += 1)
      for (let i = 0; i + 1 < grid[j].length; i += 1) {
        const corners = [centre(i, j), centre(i + 1, j), centre(i + 1, j + 1), centre(i, j + 1)];
        if (corners.some((corner) => corner.v === null)) continue;
        const cuts = corners.flatMap((a, n) => {
          const b = corners[(n + 1) % 4];
          if (a.v > 0 === b.v > 0) return [];
          const share = a.v / (a.v - b.v);
          return [[a.x + (b.x - a.x) * share, a.y + (b.y - a.y) * share]];
        });
        for (let n = 0; n + 1 < cuts.length; n += 2) {
          draw(svg, "line", { class: "even under", x1: cuts[n][0], y1: cuts[n][1], x2: cuts[n + 1][0], y2: cuts[n + 1][1] });
          draw(svg, "line", { class: "even", x1: cuts[n][0], y1: cuts[n][1], x2: cuts[n + 1][0], y2: cuts[n + 1][1] });
        }
      }
  };
  const key = (at, range) => {
    const box = make("div", { class: "key" });
    const steps = at.saving ? [-1, -0.5, 0, 0.5, 1].map((s) => s * Math.max(Math.abs(range[0]), Math.abs(range[1]))) : [0, 0.25, 0.5, 0.75, 1].map((s) => range[0] + s * (range[1] - range[0]));
    for (const value of steps) {
      const swatch = make("i", {});
      swatch.style.background = css(mix(at.saving ? DIVERGING : SEQUENCE, shareOf(value, at, range)));
      box.append(make("span", {}, swatch, ` ${shown(value, at)}`));
    }
    box.append(at.unit || "", at.saving ? " · the line is the break-even; ? where the uncertainty of the constants leaves the sign open" : "");
    return box;
  };

  // --- energy to target, sensitivity --------------------------------------------------------------------------

  const target = { id: "plot-target" };
  target.draw = (place) => {
    const at = column("energy_to_target_j"), steps = column("steps_to_target"), spread = column("steps_to_target_std");
    if (!at) { place.closest("figure").hidden = true; return; }
    const best = new Map();
    for (const point of state.shown) {
      const before = best.get(raw(point, rule));
      if (raw(point, at) !== null && (!before || raw(point, at) < raw(before, at))) best.set(raw(point, rule), point);
    }
    const list = [...best.values()].sort((a, b) => raw(a, at) - raw(b, at));
    if (!list.length) { place.append(make("p", { class: "note" }, "No point that is shown reaches the target.")); return; }
    const width = (point) => (spread && raw(point, spread) !== null ? scaled(point, at) * (raw(point, spread) / raw(point, steps)) : 0);
    const svg = canvas(place, 1000, list.length * 34 + 50, "energy to the target accuracy, the best point of every rule");
    const ends = list.flatMap((point) => [Math.max(0, scaled(point, at) - width(point)), scaled(point, at) + width(point)]);
    const sx = scale([0, ...ends], 110, 800), bottom = list.length * 34 + 8;
    for (const value of sx.ticks.filter((tick) => tick >= 0)) {
      draw(svg, "line", { class: "grid", x1: sx.place(value), x2: sx.place(value), y1: 4, y2: bottom });
      draw(svg, "text", { class: "tick", x: sx.place(value), y: bottom + 16, "text-anchor": "middle" }, plain(Number(value.toPrecision(6))));
    }
    draw(svg, "text", { class: "label", x: 455, y: bottom + 36, "text-anchor": "middle" }, `${titled(at)}, mean and standard deviation of the seeds that reach it`);
    list.forEach((point, index) => {
      const y = 20 + index * 34, x = scaled(point, at);
      draw(svg, "text", { class: "label", x: 100, y: y + 4, "text-anchor": "end" }, level(point, rule));
      draw(svg, "line", { class: "whisker", x1: sx.place(Math.max(0, x - width(point))), x2: sx.place(x + width(point)), y1: y, y2: y });
      mark(svg, point, sx.place(x), y, true, [at, steps, column("seeds_reached")].filter(Boolean));
      draw(svg, "text", { class: "tick", x: 812, y: y + 4 }, `${text(point, at)} ${at.unit}; ${raw(point, column("seeds_reached"))} of ${raw(point, column("seeds"))} seeds`);
    });
  };
  const sensitivity = { id: "plot-sensitivity", rule: null };
  sensitivity.draw = (place) => {
    const rules = [...new Set(data.sensitivity.map((row) => row.rule))];
    if (!rules.length) { place.closest("figure").hidden = true; return; }
    sensitivity.rule ??= rules[0];
    place.append(make("div", { class: "controls" }, choice("rule", rules.map((name) => [name, name]), sensitivity.rule, (name) => { sensitivity.rule = name; redraw(sensitivity); })));
    const rows = data.sensitivity.filter((row) => row.rule === sensitivity.rule).slice(0, 16);
    const svg = canvas(place, 1000, rows.length * 26 + 50, `what moves the saving of ${sensitivity.rule}`);
    const sx = scale(rows.flatMap((row) => [row.low * 100, row.high * 100, row.mean * 100, 0]), 300, 860), bottom = rows.length * 26 + 8;
    for (const value of sx.ticks) {
      draw(svg, "line", { class: value === 0 ? "zero" : "grid", x1: sx.place(value), x2: sx.place(value), y1: 4, y2: bottom });
      draw(svg, "text", { class: "tick", x: sx.place(value), y: bottom + 16, "text-anchor": "middle" }, plain(Number(value.toPrecision(6))));
    }
    rows.forEach((row, index) => {
      const y = 18 + index * 26, [a, b] = [sx.place(row.low * 100), sx.place(row.high * 100)];
      draw(svg, "text", { class: "label", x: 290, y: y + 4, "text-anchor": "end" }, row.kind === "axis" ? row.name : `${row.name} (constants ×÷)`);
      const bar = draw(svg, "rect", { class: row.kind === "axis" ? "bar axis" : "bar", x: a, y: y - 8, width: Math.max(1, b - a), height: 16 });
      hover(bar, () => [row.name, `${shown(row.low * 100, { digits: 2 })} % at ${row.low_at}`, `${shown(row.high * 100, { digits: 2 })} % at ${row.high_at}`, row.flips ? "the sign changes: this decides who wins" : "the sign stays"]);
      draw(svg, "line", { class: "whisker", x1: sx.place(row.mean * 100), x2: sx.place(row.mean * 100), y1: y - 10, y2: y + 10 });
      if (row.flips) draw(svg, "text", { class: "tick strong", x: 872, y: y + 4 }, "flips the verdict");
    });
    draw(svg, "text", { class: "label", x: 580, y: bottom + 36, "text-anchor": "middle" }, `mean saving of ${sensitivity.rule} per step [%]: at its lowest and highest over each axis, each kind of constant`);
  };

  // --- the table ----------------------------------------------------------------------------------------------

  const heads = [...axes, ...(axes.includes(rule) ? [] : [rule]), ...figures, ...["winner", "status", "reason"].map(column)]
    .filter((at) => at && !(coded(at) && at.levels.length === 1 && at.kind === "text"));
  const matches = (point) => {
    for (const [id, code] of Object.entries(state.only)) if (code !== "" && raw(point, column(id)) !== Number(code)) return false;
    if (!state.words) return true;
    const line = heads.map((at) => (coded(at) ? `${at.label}=${level(point, at)}` : `${at.label}=${raw(point, at)}`)).join(" ").toLowerCase();
    return state.words.toLowerCase().split(/\s+/).every((word) => line.includes(word));
  };
  const sorted = (list) => {
    if (!state.sort) return list;
    const sign = state.down ? -1 : 1;
    const value = (point) => (coded(state.sort) ? level(point, state.sort) : raw(point, state.sort));
    return [...list].sort((a, b) => {
      const [p, q] = [value(a), value(b)];
      if (p === null || q === null) return (p === null) - (q === null); // what is not known stands last either way
      return p < q ? -sign : p > q ? sign : a.number - b.number;
    });
  };
  const table = document.getElementById("points-table");
  const drawHead = () => {
    const row = make("tr", {}, make("th", { scope: "col", class: "number" }, "no."));
    for (const at of heads) {
      const order = state.sort === at ? (state.down ? "descending" : "ascending") : "none";
      const button = make("button", { type: "button", "data-column": at.id, onclick: () => sortBy(at) }, titled(at), order === "none" ? "" : state.down ? " ↓" : " ↑");
      row.append(make("th", { scope: "col", "aria-sort": order, class: at.number ? "number" : "" }, button));
    }
    table.tHead.replaceChildren(row);
  };
  const sortBy = (at) => {
    state.down = state.sort === at ? !state.down : at.good === 1;
    state.sort = at;
    state.page = 0;
    drawHead();
    drawRows();
  };
  const drawRows = () => {
    const list = sorted(state.shown), last = Math.max(0, Math.ceil(list.length / PAGE) - 1);
    state.page = Math.max(0, Math.min(state.page, last));
    const body = list.slice(state.page * PAGE, (state.page + 1) * PAGE).map((point) => {
      const row = make("tr", { "data-point": point.number, tabindex: "0" }, make("td", { class: "number" }, String(point.number)));
      for (const at of heads) row.append(make("td", { class: at.number ? "number" : "" }, text(point, at)));
      opens(row, point);
      return row;
    });
    table.tBodies[0].replaceChildren(...body);
    const step = (by) => () => { state.page += by; drawRows(); };
    const from = list.length ? state.page * PAGE + 1 : 0;
    document.getElementById("points-pages").replaceChildren(
      make("button", { type: "button", onclick: step(-1), ...(state.page ? {} : { disabled: "" }) }, "‹ before"),
      ` ${from} to ${Math.min(list.length, (state.page + 1) * PAGE)} of ${list.length} `,
      make("button", { type: "button", onclick: step(1), ...(state.page < last ? {} : { disabled: "" }) }, "next ›"));
  };
  const filters = () => {
    const words = make("input", { type: "search", placeholder: "words, such as: dfa weight=4", "aria-label": "filter", id: "points-filter" });
    words.addEventListener("input", () => { state.words = words.value.trim(); refresh(); });
    const box = document.getElementById("points-filters");
    box.append(make("label", { class: "choice" }, "filter ", words));
    for (const at of [...new Set([rule, ...axes, column("winner"), column("status")])].filter(Boolean)) {
      const levels = levelsOf(at, points);
      if (levels.length < 2 || levels.length > 64) continue;
      const options = [["", "all"], ...levels.map((value) => [String(value), levelText(value, at) || "–"])];
      box.append(choice(at.label, options, "", (value) => { state.only[at.id] = value; refresh(); }));
    }
  };
  const refresh = () => {
    state.shown = points.filter(matches);
    state.page = 0;
    drawRows();
    plots.forEach(redraw);
  };

  // --- one point ----------------------------------------------------------------------------------------------

  const dialog = document.getElementById("point");
  const open = (point) => {
    const settings = { ...data.base.set, ...Object.fromEntries(axes.map((at) => [at.id, level(point, at)])) };
    const pairs = (rows) => make("dl", { class: "pairs" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const config = [["chip", data.base.chip], ["model", data.base.model], ...Object.entries(settings).map(([name, value]) => [name, String(value)])];
    dialog.replaceChildren(
      make("form", { method: "dialog" }, make("button", { "aria-label": "close", class: "close" }, "×")),
      make("h2", {}, `Point ${point.number}`),
      make("h3", {}, "Configuration"), pairs([...new Map(config)]), make("pre", {}, make("code", {}, command(settings))),
      make("h3", {}, "Figures"),
      pairs([...figures, ...["transport", "winner", "baseline_transport", "status", "reason"].map(column)].filter((at) => at && (coded(at) ? level(point, at) : raw(point, at) !== null)).map((at) => [at.label, `${text(point, at)}${at.unit ? ` ${at.unit}` : ""}`])),
      make("h3", {}, "Energy of a step by phase and component"), ledgerOf(point));
    dialog.showModal();
  };
  const command = (settings) => {
    const { chip = data.base.chip, model = data.base.model, rule: name = "bp", transport, batch_size: batch, ...rest } = settings;
    const given = Object.entries(rest).filter(([id]) => /^(chip|model)\./.test(id)).map(([id, value]) => ` --set ${id}=${value}`);
    const form = transport && transport !== "none" ? ` --transport ${transport}` : "";
    return `fahw simulate ${chip} ${model} --rule ${name}${form}${batch ? ` --batch-size ${batch}` : ""}${given.join("")}`;
  };
  const ledgerOf = (point) => {
    const ledger = data.ledgers[point.number];
    if (!ledger) {
      const file = data.ledger_files.find(([first, last]) => first <= point.number && point.number <= last);
      return make("p", { class: "note" }, "Not in this page: ", ...(file ? [make("a", { href: file[2] }, file[2]), " has it, and "] : []), "the command above prints it.");
    }
    const phases = Object.keys(ledger), parts = [...new Set(phases.flatMap((phase) => Object.keys(ledger[phase])))];
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const all = sum(phases.flatMap((phase) => Object.values(ledger[phase])));
    const [factor, unit] = all >= 1e9 ? [1e-9, "mJ"] : all >= 1e6 ? [1e-6, "µJ"] : all >= 1e3 ? [1e-3, "nJ"] : [1, "pJ"];
    const show = (value) => (value ? plain(Number((value * factor).toPrecision(4))) : "");
    const total = (part) => sum(phases.map((phase) => ledger[phase][part] || 0));
    parts.sort((a, b) => total(b) - total(a));
    const line = (name, values, tag = "td") => make("tr", tag === "th" ? { class: "total" } : {}, make("th", {}, name), ...values.map((value) => make("td", { class: "number" }, value)));
    return make("div", { class: "table-wrap" }, make("table", { class: "ledger" },
      make("caption", {}, `${unit} per step, ${show(all)} in all`),
      make("thead", {}, make("tr", {}, make("th", {}, "component"), ...phases.map((phase) => make("th", { class: "number" }, phase)), make("th", { class: "number" }, "all"))),
      make("tbody", {}, ...parts.map((part) => line(part, [...phases.map((phase) => show(ledger[phase][part])), show(total(part))])),
        line("all", [...phases.map((phase) => show(sum(Object.values(ledger[phase])))), show(all)], "th"))));
  };
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // --- start --------------------------------------------------------------------------------------------------

  const plots = [scatter, map("plot-accuracy", ["accuracy_pct_mean", "energy_pj_per_sample", "seconds_per_sample", "area_mm2"], "rule"),
    map("plot-saving", ["saving_per_step", "saving_to_target", "time_saving"], "rule"), target, sensitivity];
  const redraw = (plot) => {
    const place = document.querySelector(`#${plot.id} .card`);
    place.replaceChildren();
    plot.draw(place);
  };
  filters();
  drawHead();
  drawRows();
  plots.forEach(redraw);
})();
