// What the pages ask the server. The token is kept in memory alone.

let token = "";

export function useToken(text) {
  token = text;
}

export class Problem extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer.", 0);
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(found.error || `The server answered ${response.status}.`, response.status);
  return found;
}

export const models = () => ask("models");
export const openapi = () => ask("openapi.json");

export function titles(words, model, signal) {
  const query = new URLSearchParams({ q: words, model: model.name, version: model.version, limit: "8" });
  return ask(`titles?${query}`, { signal });
}

export function recommend(asked, signal) {
  return ask("recommend", { method: "POST", body: JSON.stringify(asked), signal });
}
