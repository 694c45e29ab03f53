"use strict";
// Draw the curves of one block as SVG, and read their values at the pointer.

/** Make an SVG element with attributes and children (texts or elements). */
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make an HTML element of a class with children (texts or elements). */
function html(name, className = "", ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Write a number: thousands separated, with so many decimals if given, the tiny and the huge in powers of ten. */
function write(value, decimals) {
  const size = Math.abs(value);
  if (size >= 1e9 || (size !== 0 && size < 1e-4 && decimals === undefined)) return value.toExponential(2).replace(".00", "");
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString("en", decimals === undefined ? { maximumSignificantDigits: size >= 1e4 ? 9 : 4 } : digits);
}

/** An axis from `low` to `high` onto pixels `from` to `to`; `log` for a logarithmic one. */
class Axis {
  constructor(low, high, from, to, log) {
    Object.assign(this, { low, high, from, to, log });
  }
  warp(value) {
    return this.log ? Math.log10(value) : value;
  }
  pixel(value) {
    const [low, high] = [this.warp(this.low), this.warp(this.high)];
    return this.from + ((this.warp(value) - low) / (high - low)) * (this.to - this.from);
  }
  /** Write a value of the axis with three or four figures of its range. */
  write(value) {
    if (this.log) return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e4 ? value.toExponential(3) : value.toPrecision(4);
    return write(value, Math.min(Math.max(3 - Math.floor(Math.log10(this.high - this.low)), 0), 10));
  }
  /** About `count` round numbers on the axis, or 1, 2 and 5 times powers of ten on a logarithmic one. */
  ticks(count) {
    if (this.log) {
      const first = Math.floor(Math.log10(this.low)), last = Math.ceil(Math.log10(this.high));
      const multiples = last - first > 8 ? [1] : last - first > 3 ? [1, 3] : [1, 2, 5];
      const powers = Array.from({ length: last - first + 1 }, (_, place) => 10 ** (first + place));
      return powers.flatMap((power) => multiples.map((m) => Number((m * power).toPrecision(3))))
        .filter((tick) => tick >= this.low && tick <= this.high);
    }
    const rough = (this.high - this.low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find((multiple) => multiple * power >= rough * 0.999);
    const first = Math.ceil(this.low / step - 1e-9), last = Math.floor(this.high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, place) => Number(((first + place) * step).toPrecision(10)));
  }
}

/** The values of a series at x, as the drawn line has them: straight between points, null beyond its ends. */
function valuesAt(series, x, xAxis, yAxis) {
  const at = series.points.findIndex((point) => point[0] >= x);
  if (at < 0 || (at === 0 && series.points[0][0] > x)) return null;
  const after = series.points[at], before = series.points[Math.max(at - 1, 0)];
  const span = xAxis.warp(after[0]) - xAxis.warp(before[0]);
  const share = after[0] === x || span === 0 ? 1 : (xAxis.warp(x) - xAxis.warp(before[0])) / span;
  const between = (a, b) => {
    if (share === 1) return b;
    if (a === null || b === null) return null;
    const value = yAxis.warp(a) + share * (yAxis.warp(b) - yAxis.warp(a));
    return yAxis.log ? 10 ** value : value;
  };
  const value = between(before[1], after[1]);
  if (value === null) return null;
  if (!series.low.length) return [value];
  return [value, between(series.low[Math.max(at - 1, 0)], series.low[at]), between(series.high[Math.max(at - 1, 0)], series.high[at])];
}

class Chart {
  /** `isShown(series)` is the page's filter, `optimizers` the names whose place is their colour. */
  constructor(block, figure, isShown, optimizers) {
    Object.assign(this, { block, figure, isShown, optimizers, view: 0, width: 0, reading: null });
    this.plot = figure.querySelector(".plot");
    this.legend = figure.querySelector(".legend");
    const buttons = [...figure.querySelectorAll(".views button")];
    buttons.forEach((button, place) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
      this.view = place;
      this.draw();
    }));
    new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      if (width === 0 || (width === this.width && height === this.height)) return;
      Object.assign(this, { width, height });
      this.draw();
    }).observe(this.plot);
  }

  /** Draw at the size that the plot has now. */
  fit() {
    Object.assign(this, { width: this.plot.clientWidth, height: this.plot.clientHeight });
    this.draw();
  }

  colour(series) {
    return series.optim ? `o${this.optimizers.indexOf(series.optim)}` : "plain";
  }

  line(series) {
    return series.stops.length && !series.low.length ? "line stopped" : series.dashed ? "line apart" : "line";
  }

  /** The ranges of the axes: a diverged run's path may leave the vertical one, unless there is nothing else. */
  limits(view) {
    const { y_log: yLog, target } = this.block;
    const good = (log) => (value) => value !== null && (!log || value > 0);
    const xs = this.series.flatMap((s) => [...s.points, ...s.stops].map((point) => point[0])).filter(good(view.x_log));
    const steady = this.series.filter((s) => this.line(s) !== "line stopped" && s.points.length);
    const setting = steady.length ? steady : this.series;
    const of = (s) => [...s.points.map((point) => point[1]), ...s.low, ...s.high];
    let ys = setting.flatMap(of).filter(good(yLog));
    if (!ys.length) ys = this.series.flatMap((s) => s.stops.map((point) => point[1])).filter(good(yLog));
    if (target !== null && good(yLog)(target)) ys.push(target);
    const ends = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    let [left, right] = xs.length ? ends(xs) : [1, 10];
    let [low, high] = ys.length ? ends(ys) : [1, 10];
    if (!view.x_log) left = Math.min(left, 0);
    if (left === right) right = view.x_log ? left * 10 : left + 1;
    if (yLog) return [left, right, low / 1.1, high * 1.1];
    const pad = 0.04 * (high - low) || 0.05 * Math.abs(high) || 0.5;
    return [left, right, low - pad, high + pad];
  }

  draw() {
    if (this.width === 0) return;
    const view = this.block.views[this.view];
    this.series = view ? view.series.filter(this.isShown) : [];
    if (!this.series.length) return this.plot.replaceChildren();
    const [left, right, low, high] = this.limits(view), { width, height } = this;
    const levels = labels(new Axis(low, high, 0, height, this.block.y_log).ticks(6));
    const margin = { left: 30 + 7 * Math.max(...levels.map(([, text]) => text.length), 2), right: 24, top: 10, bottom: 44 };
    const x = this.x = new Axis(left, right, margin.left, width - margin.right, view.x_log);
    const y = this.y = new Axis(low, high, height - margin.bottom, margin.top, this.block.y_log);
    const frame = { x: x.from, y: y.to, width: x.to - x.from, height: y.from - y.to };
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0 });
    root.setAttribute("aria-label", `${this.figure.querySelector("figcaption").textContent}: ${this.block.y_label} by ${view.x_label}`);
    for (const [tick, text] of spaced(levels, y, 22)) {
      root.append(svg("line", { class: "grid", x1: x.from, x2: x.to, y1: y.pixel(tick), y2: y.pixel(tick) }));
      root.append(svg("text", { x: x.from - 7, y: y.pixel(tick) + 4, "text-anchor": "end" }, text));
    }
    for (const [tick, text] of spaced(labels(x.ticks(width / 110)), x, 62)) {
      root.append(svg("line", { class: "grid", x1: x.pixel(tick), x2: x.pixel(tick), y1: y.from, y2: y.to }));
      root.append(svg("text", { x: x.pixel(tick), y: y.from + 18, "text-anchor": "middle" }, text));
    }
    root.append(svg("text", { x: x.to, y: height - 6, "text-anchor": "end" }, view.x_label));
    const middle = (y.from + y.to) / 2;
    root.append(svg("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, this.block.y_label));
    root.append(svg("rect", { class: "frame", ...frame }));
    // A nested svg cuts off what leaves the frame.
    const inside = svg("svg", { ...frame, viewBox: `${frame.x} ${frame.y} ${frame.width} ${frame.height}`, overflow: "hidden" });
    root.append(inside);
    if (this.block.target !== null) {
      const level = y.pixel(this.block.target);
      inside.append(svg("line", { class: "target", x1: x.from, x2: x.to, y1: level, y2: level }));
      root.append(svg("text", { x: x.to - 4, y: level - 4, "text-anchor": "end" }, "target"));
    }
    // The first series is drawn last, on top.
    for (const series of [...this.series].reverse()) {
      const group = svg("g", { class: `series ${this.colour(series)}`, "data-optim": series.optim });
      inside.append(group);
      this.drawSeries(series, group, root);
    }
    this.marks = svg("g", { class: "marks" });
    root.append(this.marks);
    this.listen(root);
    this.plot.replaceChildren(root);
    this.stations = [...new Set(this.series.flatMap((s) => [...s.points, ...s.stops].map((point) => point[0])))]
      .filter((value) => value !== null && (!view.x_log || value > 0)).sort((a, b) => a - b);
    this.read(null);
  }

  drawSeries(series, group, root) {
    const { x, y } = this, fits = (value, axis) => value !== null && (!axis.log || value > 0);
    const at = (px, value) => `${x.pixel(px).toFixed(1)},${y.pixel(value).toFixed(1)}`;
    const path = (points) => {
      let pen = "M";
      return points.map(([px, value]) => {
        if (!fits(px, x) || !fits(value, y)) { pen = "M"; return ""; }
        const part = pen + at(px, value);
        pen = "L";
        return part;
      }).join("");
    };
    const edges = series.points.map(([px], place) => [px, series.low[place], series.high[place]])
      .filter(([px, low, high]) => low !== undefined && fits(px, x) && fits(low, y) && fits(high, y));
    if (edges.length) {
      const outline = [...edges.map(([px, , high]) => at(px, high)), ...edges.reverse().map(([px, low]) => at(px, low))];
      group.append(svg("path", { class: "band", d: `M${outline.join("L")}Z` }));
    }
    group.append(svg("path", { class: this.line(series), d: path(series.points) }));
    if (series.points.length <= 12) {
      for (const [px, value] of series.points.filter(([a, b]) => fits(a, x) && fits(b, y))) {
        group.append(svg("circle", { class: "dot", cx: x.pixel(px), cy: y.pixel(value), r: 3 }));
      }
    }
    for (const [px, value] of series.stops.filter(([a]) => fits(a, x))) {
      // Where it left the frame, on the frame: above it if the value is not known.
      const level = fits(value, y) ? Math.min(Math.max(y.pixel(value), y.to), y.from) : y.to, along = x.pixel(px);
      const d = `M${along - 5},${level - 5}l10,10M${along - 5},${level + 5}l10,-10`;
      root.append(svg("path", { class: `stop ${this.colour(series)}`, d }));
    }
  }

  listen(root) {
    const point = (event) => {
      const box = root.getBoundingClientRect(), along = ((event.clientX - box.left) / box.width) * this.width;
      const distance = (station) => Math.abs(this.x.pixel(station) - along);
      this.read(this.stations.reduce((best, station) => (distance(station) < distance(best) ? station : best)));
    };
    root.addEventListener("pointermove", point);
    root.addEventListener("pointerdown", point);
    root.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.read(null); });
    root.addEventListener("blur", () => this.read(null));
    root.addEventListener("keydown", (event) => {
      const last = this.stations.length - 1, now = this.reading === null ? last : this.stations.indexOf(this.reading);
      const to = { ArrowLeft: Math.max(now - 1, 0), ArrowRight: Math.min(now + 1, last), Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.read(this.stations[to]);
    });
  }

  /** Show the values of all series at x in the legend; where x is null, the last value of each. */
  read(x) {
    this.reading = x;
    this.marks.replaceChildren();
    if (x !== null) {
      const along = this.x.pixel(x);
      this.marks.append(svg("line", { class: "cross", x1: along, x2: along, y1: this.y.from, y2: this.y.to }));
    }
    const rows = this.series.map((series) => {
      const last = series.points.filter((point) => point[1] !== null).at(-1);
      const values = x === null && !last ? null : valuesAt(series, x ?? last[0], this.x, this.y);
      if (x !== null && values && values[0] >= this.y.low && values[0] <= this.y.high) {
        const dot = svg("circle", { class: "dot", cx: this.x.pixel(x), cy: this.y.pixel(values[0]), r: 4 });
        this.marks.append(svg("g", { class: this.colour(series) }, dot));
      }
      const stroke = svg("svg", {}, svg("line", { class: this.line(series), x1: 0, x2: 22, y1: 5, y2: 5 }));
      const texts = values ? values.filter((value) => value !== null).map((value) => this.y.write(value)) : [""];
      const shown = texts.length === 3 ? [`${texts[0]} `, html("small", "", `[${texts[1]}, ${texts[2]}]`)] : [texts[0]];
      return html("tr", this.colour(series), html("td", "", stroke, series.label), html("td", "number", ...shown));
    });
    const label = this.block.views[this.view].x_label;
    const head = html("th", "number", x === null ? "last value" : `${label}: ${write(x)}`);
    head.colSpan = 2;
    head.title = "Between the measurements of a series: on the straight line drawn";
    this.legend.replaceChildren(html("table", "", html("thead", "", html("tr", "", head)), html("tbody", "", ...rows)));
  }
}

/** Pair ticks with their texts, on a linear axis with the same decimals. */
function labels(ticks) {
  const even = ticks.length > 2 && Math.abs(ticks[2] - 2 * ticks[1] + ticks[0]) < 1e-9 * Math.abs(ticks[2] - ticks[0]);
  const decimals = Math.max(...ticks.map((tick) => (String(tick).split(".")[1] ?? "").length));
  return ticks.map((tick) => [tick, write(tick, even && decimals <= 8 ? decimals : undefined)]);
}

/** Leave out labels that stand closer than `gap` pixels to the one before. */
function spaced(labelled, axis, gap) {
  const kept = [];
  for (const label of labelled) {
    if (!kept.length || Math.abs(axis.pixel(label[0]) - axis.pixel(kept.at(-1)[0])) >= gap) kept.push(label);
  }
  return kept;
}
