// The page at /docs: /openapi.json as a list, drawn as text alone.

import { openapi } from "./ask.js";

function make(tag, className, ...parts) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...parts);
  return element;
}

function table(rows) {
  const body = make("tbody", "");
  for (const [left, right] of rows) {
    body.append(make("tr", "", make("td", "", make("code", "", left)), make("td", "", right)));
  }
  return make("table", "", body);
}

function typeOf(schema, known) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf || schema.oneOf) {
    return (schema.anyOf || schema.oneOf).map((one) => typeOf(one, known)).join(" or ");
  }
  if (schema.type === "array") return `list of ${typeOf(schema.items, known)}`;
  return schema.type || "anything";
}

function fields(schema, known) {
  const target = schema.$ref ? known[schema.$ref.split("/").pop()] : schema;
  const needed = new Set(target.required || []);
  return Object.entries(target.properties || {}).map(([name, one]) => {
    const words = [typeOf(one, known), needed.has(name) ? "needed" : "", one.description || ""];
    return [name, words.filter(Boolean).join("; ")];
  });
}

function body(operation, known) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  if (!schema) return [];
  const one = schema.oneOf ? schema.oneOf[0] : schema;
  const title = schema.oneOf ? "Body: an object, or a list of such objects" : "Body: an object";
  const name = one.$ref?.split("/").pop();
  const example = known[name]?.examples?.[0];
  const parts = [make("h3", "", title), table(fields(one, known))];
  if (example) parts.push(make("pre", "", JSON.stringify(example, null, 2)));
  return parts;
}

function card(path, verb, operation, known) {
  const box = make("details", "card operation");
  box.append(make("summary", "", make("span", "verb", verb.toUpperCase()), make("code", "", path), make("span", "quiet", operation.summary || "")));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    const rows = parameters.map((one) => [one.name, `${typeOf(one.schema, known)}; in ${one.in}${one.required ? "; needed" : ""}`]);
    box.append(make("h3", "", "Parameters"), table(rows));
  }
  box.append(...body(operation, known));
  const answers = Object.entries(operation.responses).map(([status, one]) => [status, one.description]);
  box.append(make("h3", "", "Answers"), table(answers));
  return box;
}

const place = document.getElementById("operations");
try {
  const found = await openapi();
  const groups = new Map();
  for (const [path, verbs] of Object.entries(found.paths)) {
    for (const [verb, operation] of Object.entries(verbs)) {
      const group = operation.tags?.[0] || "Others";
      if (!groups.has(group)) groups.set(group, [make("h2", "", group)]);
      groups.get(group).push(card(path, verb, operation, found.components?.schemas || {}));
    }
  }
  place.replaceChildren(...[...groups.values()].flat());
} catch (error) {
  place.replaceChildren(make("p", "notice", error.message));
}
