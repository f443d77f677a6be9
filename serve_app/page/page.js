// The page: takes series, asks the endpoint, shows what it says. All that it keeps is in memory.

import { Refusal, ask, classesOf, termsOf } from "./answers.js";
import { cardOf, element, sizesOf } from "./card.js";
import { Chart, short } from "./chart.js";
import { exampleOf, numbersOf, rowsOf, withCommas } from "./series.js";

const LONGEST_TEXT = 200_000; // characters that the text field shows; more makes it slow
const SORTED_FROM = 12; // classes

const $ = id => document.getElementById(id);
const percent = share => `${(100 * share).toFixed(1)} %`;

let model = null; // what GET /model says
let file = null; // {name, text} of a file too long for the text field
let rows = []; // of the series that were answered, and what was answered
let predictions = [];
let explanations = new Map(); // by row
let shown = { row: 0, place: 0, values: [], terms: null };
let turn = 0; // counts requests for predictions; answers to former ones are let go

const chart = new Chart($("chart"), readOut);

/** Run this; what the endpoint refuses is shown. */
async function attempt(action) {
  $("error").hidden = true;
  document.body.ariaBusy = "true";
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    $("answer").hidden = true; // it is to what was asked before
    $("error").textContent = error.message;
    $("error").hidden = false;
  } finally {
    document.body.ariaBusy = "false";
  }
}

const columnsOf = ({ schema }) => JSON.stringify([schema.n_channels, schema.value_columns.length, schema.missing]);
const below = name => `endpoints/${encodeURIComponent(name)}`;

async function start() {
  const { endpoints } = await ask("endpoints");
  $("model").replaceChildren(...endpoints.map(name => element("option", name, { value: name })));
  $("models").hidden = endpoints.length < 2;
  await describe();
  $("columns").hidden = false;
}

async function describe() {
  model = await ask(`${below($("model").value)}/model`);
  const { value_columns: columns, n_channels } = model.schema;
  const order = n_channels > 1 ? ", channel after channel" : "";
  $("name").textContent = model.name;
  $("version").textContent = `version ${model.version}`;
  $("card").replaceChildren(...cardOf(model));
  $("hint").textContent = `Drop a CSV file on this page, or paste rows: ${columns.length} values a line${order}, `
    + "with or without a header; separated by commas, semicolons, tabs or blanks.";
  $("series").placeholder = `${columns.slice(0, 4).join(",")},…\n0.1,0.4,0.2,0.3,…`;
}

async function classify() {
  turn += 1;
  const mine = turn;
  const text = withCommas(file?.text ?? $("series").value, model.schema);
  const answer = await ask(`${below($("model").value)}/invocations`, { type: "text/csv", body: text });
  if (mine !== turn) return;
  if (answer.answeredBy !== model.version) await describe(); // another took over meanwhile
  rows = rowsOf(text, model.schema);
  predictions = answer.predictions;
  explanations = new Map();
  $("row").max = predictions.length;
  $("count").textContent = `of ${predictions.length}`;
  $("steps").hidden = predictions.length < 2;
  $("score").textContent = score();
  $("tally").textContent = tally();
  $("answer").hidden = false;
  step(0);
}

/** How many rows each class was found in. */
function tally() {
  const counts = new Map();
  for (const prediction of predictions) {
    for (const { name, decided } of classesOf(model.schema, prediction)) {
      if (decided) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  const largest = [...counts].sort((one, other) => other[1] - one[1]);
  const told = largest.slice(0, 6).map(([name, count]) => `${name}: ${count}`);
  return told.join(", ") + (largest.length > 6 ? ", …" : "");
}

/** Whether a row's prediction is what it is labelled as; null where it has no label. */
function isRight(row) {
  const { truth } = rows[row];
  if (!truth) return null;
  const decided = classesOf(model.schema, predictions[row]).filter(one => one.decided).map(one => one.name);
  return decided.length === truth.length && decided.every(name => truth.includes(name));
}

/** How many rows are right, of those that have labels. */
function score() {
  const judged = predictions.map((_, row) => isRight(row)).filter(right => right !== null);
  const right = judged.filter(Boolean).length;
  return judged.length ? `${right.toLocaleString("en")} of ${judged.length.toLocaleString("en")} right` : "";
}

/** Show a row, from 0. */
function step(row) {
  const classes = classesOf(model.schema, predictions[row]);
  const best = classes.reduce((best, { probability }, i) => (probability > classes[best].probability ? i : best), 0);
  const numbers = numbersOf(rows[row].cells);
  const { n_channels, n_timepoints: length } = sizesOf(model.schema);
  const values = Array.from({ length: n_channels }, (_, c) => numbers.slice(c * length, (c + 1) * length));
  shown = { row, place: best, values, terms: null };
  $("row").value = row + 1;
  $("previous").disabled = row === 0;
  $("next").disabled = row === predictions.length - 1;
  const decided = classes.filter(({ decided }) => decided);
  const told = decided.map(({ name, probability }) => `${name}, ${percent(probability)}`).join("; ") || "none of the labels";
  const { truth } = rows[row];
  $("prediction").textContent = told;
  const right = isRight(row);
  const mark = right === null ? "" : right ? "✓ right: " : "✗ wrong: ";
  $("truth").textContent = truth ? `${mark}labelled ${truth.join(", ") || "none"}` : "";
  $("truth").className = right === null ? "hint" : right ? "right" : "wrong";
  $("status").textContent = `Row ${row + 1} of ${predictions.length}: ${told}${right === false ? ", which is wrong" : ""}`;
  bars(classes, best);
  draw();
  if (!explanations.has(row)) explain(row, numbers, turn);
}

/** A bar for each class, each a choice of what is explained. */
function bars(classes, best) {
  const ordered = classes.map((found, place) => ({ ...found, place }));
  if (classes.length >= SORTED_FROM) ordered.sort((one, other) => other.probability - one.probability);
  const labels = ordered.map(({ name, probability, decided, place }) => {
    const label = element("label", "", { className: decided ? "class decided" : "class" });
    const choice = element("input", "", { type: "radio", name: "class", value: place, checked: place === best });
    const bar = element("span", "", { className: "bar" });
    bar.append(element("i"));
    bar.firstChild.style.width = `${100 * probability}%`;
    if (model.schema.task === "multilabel") {
      bar.append(element("b", "", { title: "decided from here on" }));
      bar.lastChild.style.left = `${100 * (model.decision.thresholds[place] ?? 0.5)}%`;
    }
    label.append(choice, element("span", name, { className: "name", title: name }), bar,
      element("span", percent(probability), { className: "share" }));
    return label;
  });
  $("classes").replaceChildren($("classes").firstElementChild, ...labels);
}

/** Ask why; the probabilities stand without it. */
async function explain(row, series, mine) {
  const body = JSON.stringify({ instances: [series] });
  const path = `${below($("model").value)}/invocations?explain=true`;
  const answer = await ask(path, { type: "application/json", body }).catch(error => ({ error }));
  if (mine !== turn) return;
  if (answer.explanations) explanations.set(row, answer.explanations[0]);
  if (row === shown.row) draw(answer.error?.message);
}

/** Draw the row that is shown, with the terms of the class that is chosen, or why there are none. */
function draw(refusal = "") {
  const { schema } = model;
  const explanation = explanations.get(shown.row);
  const length = shown.values[0].length;
  const names = shown.values.map((_, c) => (schema.n_channels > 1 ? schema.value_columns[c * length].split("_")[0] : ""));
  const classes = classesOf(schema, predictions[shown.row]);
  shown.terms = explanation ? termsOf(schema, explanation, shown.place) : null;
  chart.show(shown.values, names, shown.terms?.timepoints ?? null);
  $("classes").classList.toggle("explained", Boolean(explanation));
  $("legend").hidden = !explanation;
  $("explained").textContent = classes[shown.place].name;
  $("terms").textContent = refusal;
  if (!shown.terms) return;
  const { logit, bias, lstm, timepoints } = shown.terms;
  const along = timepoints.reduce((sum, term) => sum + term, 0);
  $("terms").textContent = `Score ${signed(logit)}: ${signed(along)} along the series, ${signed(lstm)} from the LSTM, `
    + `${signed(bias)} bias.`;
}

const signed = (number, told = size => size.toFixed(2)) => (number < 0 ? "−" : "+") + told(Math.abs(number));

/** What is at a timepoint, for the caption and for screen readers. */
function readOut(t) {
  let text = "";
  if (t !== null) {
    const found = shown.values.map(values => (values[t] === null ? "missing" : short(values[t])));
    text = `timepoint ${t + 1}: ${found.join(", ")}`;
    if (shown.terms) text += ` (${signed(shown.terms.timepoints[t], short)})`;
  }
  $("readout").textContent = text;
  return text;
}

async function take(dropped) {
  const most = model.max_body_bytes;
  if (dropped.size > most) throw new Refusal(`found more than ${most} bytes; send fewer rows a request`, 413);
  const text = await dropped.text();
  const fits = text.length <= LONGEST_TEXT;
  file = fits ? null : { name: dropped.name, text };
  $("series").value = fits ? text : "";
  if (!fits) $("series").placeholder = `${dropped.name}, ${(dropped.size / 1e6).toFixed(1)} MB`;
  await classify();
}

$("input").addEventListener("submit", event => {
  event.preventDefault();
  attempt(classify);
});
$("series").addEventListener("input", () => (file = null));
$("series").addEventListener("paste", () => setTimeout(() => attempt(classify)));
$("series").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("input").requestSubmit();
});
$("file").addEventListener("change", event => {
  const [chosen] = event.target.files;
  event.target.value = ""; // so that the same file can be opened again
  if (chosen) attempt(() => take(chosen));
});
$("example").addEventListener("click", () => {
  file = null;
  $("series").value = exampleOf(model.schema, model.scaler);
  attempt(classify);
});
$("model").addEventListener("change", () => attempt(async () => {
  $("answer").hidden = true;
  const before = columnsOf(model);
  await describe();
  if (columnsOf(model) !== before) [file, $("series").value] = [null, ""]; // made for the other one
  if (file || $("series").value) await classify();
}));
$("previous").addEventListener("click", () => step(shown.row - 1));
$("next").addEventListener("click", () => step(shown.row + 1));
$("row").addEventListener("change", ({ target }) => {
  step(Math.max(1, Math.min(predictions.length, Math.round(target.valueAsNumber) || 1)) - 1);
});
$("classes").addEventListener("change", ({ target }) => {
  shown.place = Number(target.value);
  draw();
});
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [dropped] = event.dataTransfer.files;
  if (dropped && model) attempt(() => take(dropped));
});

attempt(start);
