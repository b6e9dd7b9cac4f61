// A client that costs little, so that what is measured is the server.
import http from "node:http";

/** Connections that are kept. */
export function makeAgent() {
  return new http.Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
}

/** The request that all measurements vary. */
export function completion(prompt, tokens, more = {}) {
  return { prompt, max_tokens: tokens, temperature: 0, ignore_eos: true, ...more };
}

/**
 * Asks for one completion.
 *
 * @returns Its status, its text, and whether it came to its end. A connection that fails is status 0.
 */
export function ask(url, agent, body, onFirst = () => {}) {
  const text = JSON.stringify(body);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  return new Promise((resolve) => {
    const parts = [];
    const request = http.request(`${url}/v1/completions`, { method: "POST", agent, headers }, (response) => {
      const finish = () =>
        resolve(read(response.statusCode, Buffer.concat(parts).toString("utf8"), body.stream === true));
      response.on("data", (part) => {
        if (parts.push(part) === 1) onFirst();
      });
      response.on("end", finish).on("error", finish);
    });
    request.on("error", () => resolve({ status: 0, text: "", whole: false }));
    request.end(text);
  });
}

function read(status, text, isStream) {
  try {
    if (!isStream || status !== 200) {
      const { choices } = JSON.parse(text);
      return { status, text: choices?.[0].text ?? "", whole: choices !== undefined };
    }
    const events = [...text.matchAll(/^data: (\{.*)$/gm)].map(([, json]) => JSON.parse(json));
    const whole = /^data: \[DONE\]$/m.test(text) && events.every(({ error }) => error === undefined);
    return { status, text: events.map(({ choices }) => choices?.[0]?.text ?? "").join(""), whole };
  } catch {
    return { status, text: "", whole: false };
  }
}
