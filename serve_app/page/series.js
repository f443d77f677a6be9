// Series as the endpoint takes them in CSV, read here only to be drawn: it has accepted them before.

/**
 * @param {string} text CSV, with or without a header.
 * @param {object} schema as GET /model has it.
 * @returns {{cells: string[], truth: string[] | null}[]} of each row the cells of its values, in
 *   the schema's order, and the classes that its own label columns name; null where it has none.
 */
export function rowsOf(text, schema) {
  const lines = tableOf(text.replace(/^\uFEFF/, "").replace(/\r\n?/g, "\n").replace(/^\n+/, ""));
  const first = lines[0] ?? [];
  const header = first.some(cell => /[xy]/.test(cell)) ? first : null; // as the endpoint tells it
  if (!header) return lines.map(cells => ({ cells, truth: null }));
  const place = new Map(header.map((name, i) => [name, i]));
  const values = schema.value_columns.map(name => place.get(name));
  const labels = schema.label_columns.map(name => [name, place.get(name)]);
  return lines.slice(1).map(line => ({
    cells: values.map(i => line[i]),
    truth: labels.every(([, i]) => i !== undefined) ? truthOf(line, labels, schema) : null,
  }));
}

/** Numbers of cells; null where one is empty. */
export function numbersOf(cells) {
  return cells.map(cell => (cell.trim() && Number.isFinite(Number(cell)) ? Number(cell) : null));
}

/** A few series that look as if the model had been trained on them, as lines of CSV. */
export function exampleOf(schema, scaler, rows = 3) {
  const timepoints = schema.value_columns.length / schema.n_channels;
  const lines = Array.from({ length: rows }, () => {
    const waves = Array.from({ length: schema.n_channels }, () => wave(timepoints));
    return schema.value_columns.map((_, i) => {
      const place = scaler.mean.length > schema.n_channels ? i : Math.floor(i / timepoints);
      const value = waves[Math.floor(i / timepoints)](i % timepoints);
      return Number(((scaler.mean[place] ?? 0) + (scaler.std[place] ?? 1) * value).toPrecision(6));
    });
  });
  return lines.map(values => values.join(",")).join("\n");
}

/** Three waves of random phase, the slowest the largest, and a little noise: about 0 plus or minus 1. */
function wave(timepoints) {
  const parts = [1, 2, 4].map(n => [n, 1 / n, 2 * Math.PI * Math.random()]);
  return t =>
    parts.reduce((sum, [n, size, phase]) =>
      sum + size * Math.sin((2 * Math.PI * n * t) / timepoints + phase), 0.2 * (Math.random() - 0.5));
}

function truthOf(line, labels, schema) {
  const [[label, place]] = labels;
  if (labels.some(([, i]) => !line[i]?.trim())) return null;
  if (schema.task === "multiclass" && labels.length === 1) return [classOf(line[place].trim(), schema.classes)];
  if (schema.task === "binary" && labels.length === 1) return [`${label} = ${oneOrZero(line[place])}`];
  return labels.filter(([, i]) => oneOrZero(line[i]) === 1).map(([name]) => name);
}

/** A class as the model names it: numbers are one class however they are written. */
function classOf(cell, classes) {
  if (classes.includes(cell) || !PLAIN_NUMBER.test(cell)) return cell;
  return classes.find(name => PLAIN_NUMBER.test(name) && Number(name) === Number(cell)) ?? cell;
}

const oneOrZero = cell => ({ true: 1, false: 0 })[cell.trim().toLowerCase()] ?? Number(cell);
const PLAIN_NUMBER = /^[+-]?(0|[1-9]\d*)?(\.\d*)?(e[+-]?\d+)?$/i;

/**
 * What people paste, as CSV with commas: cells between tabs, semicolons or blanks, lists in
 * brackets, one series as a column. What it is not sure about it leaves to the endpoint.
 */
export function withCommas(text, schema) {
  const first = text.trimStart().split(/[\r\n]/, 1)[0];
  const named = /[xy]/.test(first); // as the endpoint tells a header
  if (text.includes('"')) return text.replaceAll("\t", ",");
  let found = named ? text : text.replaceAll(/\][\s,]*\[/g, "\n").replaceAll(/[[\]]/g, "");
  if (first.includes(";")) found = found.replaceAll(",", ".").replaceAll(";", ",");
  else if (named || /[,\t]/.test(first)) found = found.replaceAll("\t", ",");
  else found = found.replaceAll(/^[^\S\r\n]+|[^\S\r\n]+$/gm, "").replaceAll(/[^\S\r\n]+/g, ",");
  const lines = found.trim().split(/[\r\n]+/);
  const isColumn = !named && lines.length > 1 && lines.length === schema.value_columns.length && !found.includes(",");
  return isColumn ? lines.join(",") : found;
}

/** The cells of each line that is not blank. */
function tableOf(text) {
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (const [token] of `${text}\n`.matchAll(/""|[",\n]|[^",\n]+/g)) {
    if (token === '"') quoted = !quoted;
    else if (quoted) cell += token === '""' ? '"' : token;
    else if (token === "," || token === "\n") {
      row.push(cell);
      cell = "";
      if (token === ",") continue;
      if (row.length > 1 || row[0].trim()) rows.push(row);
      row = [];
    } else if (token !== '""') cell += token;
  }
  return rows;
}
