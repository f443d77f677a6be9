// Draws a series as SVG, coloured by what each timepoint says for or against a class.

const LEFT = 52, RIGHT = 10, TOP = 8, GAP = 10, STRIP = 54, AXIS = 22;
const MOST_STOPS = 400;

/** Draws values of each channel, gaps where one is missing, and the terms of a class if there are any. */
export class Chart {
  /**
   * @param {SVGSVGElement} svg to draw into.
   * @param {(t: number | null) => string} told at another timepoint; returns what is read out.
   */
  constructor(svg, told) {
    this.svg = svg;
    this.told = told;
    this.shown = { channels: [], names: [], terms: null };
    this.at = null;
    new ResizeObserver(() => this.draw()).observe(svg.parentElement);
    svg.addEventListener("pointermove", event => this.#point(event));
    svg.addEventListener("pointerleave", () => this.#move(null));
    svg.addEventListener("blur", () => this.#move(null));
    svg.addEventListener("keydown", event => this.#press(event));
  }

  /**
   * @param {(number | null)[][]} channels (C, T).
   * @param {string[]} names of the channels.
   * @param {number[] | null} terms (T).
   */
  show(channels, names, terms) {
    if (channels !== this.shown.channels) this.at = null; // another row
    this.shown = { channels, names, terms };
    this.draw();
  }

  draw() {
    const { channels, terms } = this.shown;
    this.width = this.svg.parentElement.clientWidth;
    if (!channels.length || !this.width) return;
    const each = { 1: 220, 2: 130, 3: 100 }[channels.length] ?? 72;
    this.bottom = TOP + channels.length * (each + GAP);
    const height = this.bottom + (terms ? STRIP + 2 * GAP : 0) + AXIS;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.setAttribute("aria-valuemax", channels[0].length);
    this.svg.replaceChildren();
    if (terms) this.#gradient(terms);
    this.dots = channels.map((values, c) => this.#panel(values, c, TOP + c * (each + GAP), each));
    if (terms) this.#strip(terms, this.bottom + GAP);
    this.#timeAxis(height - AXIS);
    this.cursor = this.#add("line", { class: "cursor", y1: TOP, y2: height - AXIS });
    this.#move(this.at);
  }

  #x(t) {
    const length = this.shown.channels[0].length;
    return LEFT + ((t + 0.5) / length) * (this.width - LEFT - RIGHT);
  }

  /** Blue where a timepoint speaks for the class, orange where against it, as strongly as it does. */
  #gradient(terms) {
    const gradient = this.#add("linearGradient", {
      id: "terms-along", gradientUnits: "userSpaceOnUse", x1: LEFT, x2: this.width - RIGHT, y1: 0, y2: 0,
    });
    const each = Math.ceil(terms.length / MOST_STOPS);
    const largest = Math.max(...extremes(terms).map(Math.abs)) || 1;
    for (let start = 0; start < terms.length; start += each) {
      const part = terms.slice(start, start + each);
      const term = part.reduce((sum, value) => sum + value, 0) / part.length;
      this.#add("stop", {
        class: term < 0 ? "against" : "for",
        offset: (start + part.length / 2) / terms.length,
        "stop-opacity": (Math.abs(term) / largest) ** 0.7,
      }, gradient);
    }
  }

  /** One channel. Returns the place of each of its values. */
  #panel(values, channel, top, height) {
    const known = values.filter(value => value !== null);
    let [low, high] = known.length ? extremes(known) : [0, 0];
    if (low === high) [low, high] = [low - 1, high + 1];
    const pad = (high - low) * 0.06;
    const y = value => top + height * (1 - (value - low + pad) / (high - low + 2 * pad));
    const wide = this.width - LEFT - RIGHT;
    for (const tick of ticks(low, high, height > 90 ? 4 : 2)) {
      this.#add("line", { class: "grid", x1: LEFT, x2: LEFT + wide, y1: y(tick), y2: y(tick) });
      this.#add("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }).textContent = tick;
    }
    const line = pathOf(values, t => this.#x(t), y);
    if (this.shown.terms) {
      this.#add("rect", { class: "wash", x: LEFT, y: top, width: wide, height });
    }
    this.#add("path", { class: "series", d: line });
    if (this.shown.terms) this.#add("path", { class: "spoken", d: line });
    const name = this.shown.names[channel];
    if (name) this.#add("text", { class: "channel", x: LEFT + 6, y: top + 14 }).textContent = name;
    return values.map(value => (value === null ? null : y(value)));
  }

  /** The terms themselves, above and below zero. */
  #strip(terms, top) {
    const [low, high] = extremes([0, ...terms]);
    const y = term => round(top + STRIP * (1 - (term - low) / (high - low || 1)));
    for (const [kind, clip] of [["for", Math.max], ["against", Math.min]]) {
      const points = terms.map((term, t) => `${round(this.#x(t))} ${y(clip(0, term))}`);
      const [first, last] = [0, terms.length - 1].map(t => `${round(this.#x(t))} ${y(0)}`);
      this.#add("path", { class: `area ${kind}`, d: `M${first}L${points.join("L")}L${last}Z` });
    }
    this.#add("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: y(0), y2: y(0) });
    for (const term of new Set([0, high > -low ? high : low])) {
      this.#add("text", { x: LEFT - 8, y: y(term) + 4, "text-anchor": "end" }).textContent = short(term);
    }
  }

  #timeAxis(top) {
    const length = this.shown.channels[0].length;
    const most = Math.max(2, Math.floor(this.width / 110));
    const inner = ticks(1, length, most).filter(t => Number.isInteger(t) && t > 0);
    for (const t of inner.length ? inner : [1]) {
      const text = this.#add("text", { x: this.#x(t - 1), y: top + 16, "text-anchor": "middle" });
      text.textContent = t;
    }
  }

  #point(event) {
    const length = this.shown.channels[0]?.length;
    if (!length) return;
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT);
    this.#move(Math.max(0, Math.min(length - 1, Math.floor(share * length))));
  }

  #press(event) {
    const last = this.shown.channels[0]?.length - 1;
    const far = Math.max(1, Math.round(last / 10));
    const at = this.at ?? -1;
    const to = {
      ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1,
      PageUp: at + far, PageDown: at - far, Home: 0, End: last,
    }[event.key];
    if (to === undefined || !(last >= 0)) return;
    event.preventDefault();
    this.#move(Math.max(0, Math.min(last, to)));
  }

  /** Put the cursor to a timepoint, or take it away. */
  #move(t) {
    this.at = t;
    this.svg.setAttribute("aria-valuenow", (t ?? 0) + 1);
    this.svg.setAttribute("aria-valuetext", this.told(t));
    this.svg.querySelectorAll(".dot").forEach(dot => dot.remove());
    this.cursor?.classList.toggle("shown", t !== null);
    if (t === null || !this.cursor) return;
    const x = this.#x(t);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    for (const places of this.dots) {
      if (places[t] !== null) this.#add("circle", { class: "dot", cx: x, cy: places[t], r: 4 });
    }
  }

  #add(kind, attributes, parent = this.svg) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return parent.appendChild(element);
  }
}

/** Lines through values, broken where one is missing; a value between two gaps is a point. */
function pathOf(values, x, y) {
  let path = "", drawn = false;
  values.forEach((value, t) => {
    if (value !== null) path += `${drawn ? "L" : "M"}${round(x(t))} ${round(y(value))}${drawn ? "" : "h0"}`;
    drawn = value !== null;
  });
  return path;
}

function extremes(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** At most `most` round numbers from low to high, with the digits that tell them apart. */
function ticks(low, high, most) {
  const size = 10 ** Math.floor(Math.log10((high - low || 1) / most));
  const step = [1, 2, 5, 10, 20].map(n => n * size).find(step => (high - low) / step <= most);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) found.push(Number((n * step).toPrecision(9)));
  return found;
}

const round = number => Math.round(number * 10) / 10;

/** A number in few digits. */
export const short = number => String(Number(number.toPrecision(3)));
