// Lists what openapi.json says.

import { element } from "./card.js";

const reply = await fetch("openapi.json");
const api = await reply.json();
const sections = Object.entries(api.paths ?? {}).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => sectionOf(`${method.toUpperCase()} ${path}`, operation)));
document.getElementById("paths").replaceChildren(...(api.paths ? sections : [element("p", api.message)]));

function sectionOf(title, operation) {
  const types = Object.keys(operation.requestBody?.content ?? {}).join(", ");
  const table = element("table");
  for (const [status, { description }] of Object.entries(operation.responses)) {
    table.insertRow().append(element("td", status), element("td", description));
  }
  const section = element("section", "", { className: "card" });
  section.append(element("h2", title), element("p", operation.summary), element("p", types && `Content types: ${types}`), table);
  return section;
}
