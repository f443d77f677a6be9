// What the endpoint is asked, and what its answers say of a model's classes.

/** What the endpoint said in place of an answer. */
export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * The browser sends along the token that it asked for when this page was opened, if there is one.
 *
 * @param {string} path below this page.
 * @param {{type: string, body: string}} [sent] POSTed, if given.
 * @returns the answer's JSON, and the version of the model that gave it.
 * @throws {Refusal} with the endpoint's own line.
 */
export async function ask(path, sent) {
  const headers = { Accept: "application/json" };
  if (sent) headers["Content-Type"] = sent.type;
  const request = { method: sent ? "POST" : "GET", body: sent?.body, headers };
  const reply = await fetch(path, { ...request, cache: "no-store", credentials: "same-origin" }).catch(() => {
    throw new Refusal("the endpoint does not answer", 0);
  });
  const text = await reply.text();
  if (!reply.ok) throw new Refusal(messageOf(text) || `status ${reply.status}`, reply.status);
  return { ...JSON.parse(text), answeredBy: reply.headers.get("x-model-version") };
}

function messageOf(text) {
  try {
    return JSON.parse(text).message;
  } catch {
    return text.trim().split("\n")[0];
  }
}

/** Whether the labels are one column of zero and one. */
export const isSingleBinary = schema =>
  schema.task === "binary" && schema.label_columns.length === 1;

/** Name, probability and decision of each class, or label, in a row's prediction. */
export function classesOf(schema, prediction) {
  const [label] = schema.label_columns;
  if (isSingleBinary(schema)) {
    const yes = prediction[`p${label.slice(1)}`];
    return [1 - yes, yes].map((probability, i) => ({
      name: `${label} = ${i}`, probability, decided: prediction[label] === i,
    }));
  }
  if (schema.task === "multiclass" && schema.label_columns.length === 1) {
    return schema.classes.map(name => ({
      name, probability: prediction[`p_${name}`], decided: prediction[label] === name,
    }));
  }
  return schema.label_columns.map(name => ({
    name, probability: prediction[`p${name.slice(1)}`], decided: prediction[name] === 1,
  }));
}

/**
 * What a row's explanation says of the class at a place of `classesOf`: its terms add up to its
 * logit. The network of a binary task has one output, which speaks for the second class.
 */
export function termsOf(schema, explanation, place) {
  const outputs = Object.keys(explanation.timepoints);
  const output = schema.task === "binary" ? outputs[0] : schema.classes[place];
  const sign = schema.task === "binary" && place === 0 ? -1 : 1;
  const [logit, bias, lstm] = ["logits", "bias", "lstm"].map(kind => sign * explanation[kind][output]);
  return { timepoints: explanation.timepoints[output].map(term => sign * term), logit, bias, lstm };
}
