// The model's card, and elements that say one thing.

import { short } from "./chart.js";

const NOT_TOLD = ["lr", "rows", "rows_per_second", "seconds", "time"]; // of how it was trained

/** An element that says this as text, whatever characters it has. */
export function element(kind, text = "", properties = {}) {
  return Object.assign(document.createElement(kind), { textContent: text, ...properties });
}

/** Terms and descriptions of what GET /model says. */
export function cardOf({ schema, metrics, decision }) {
  const { n_channels: channels, n_timepoints: length } = sizesOf(schema);
  const facts = [
    ["Task", schema.task],
    ["Length", length],
    ["Channels", channels],
    ["Missing values", schema.missing === "mask" ? "allowed" : "refused"],
    ["Temperature", decision.temperature === 1 ? null : short(decision.temperature)],
    ...Object.entries(metrics)
      .filter(([name, value]) => typeof value === "number" && !NOT_TOLD.includes(name))
      .map(([name, value]) => [sentence(name), short(value)]),
  ];
  const classes = element("dd", "", { className: "chips" });
  classes.append(...schema.classes.map(name => element("span", name)));
  return [
    ...facts.filter(([, value]) => value !== null)
      .flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
    element("dt", `${schema.classes.length} ${schema.task === "multilabel" ? "labels" : "classes"}`), classes,
  ];
}

/** Channels of a series, and the timepoints of each. */
export function sizesOf({ n_channels, value_columns }) {
  return { n_channels, n_timepoints: value_columns.length / n_channels };
}

const sentence = name => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
