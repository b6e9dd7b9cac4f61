import assert from "node:assert/strict";

// biome-ignore lint/suspicious/noExplicitAny: answers of any form are looked at
export function parseAnswer(text: string): any {
  return text.startsWith("event:") ? undefined : JSON.parse(text);
}

/** Events by their data; each has its type as its name. */
export function readNamedEvents(text: string): { type: string; [field: string]: unknown }[] {
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => {
      const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(event) ?? [];
      const parsed = JSON.parse(data as string);
      assert.equal(parsed.type, name);
      return parsed;
    });
}
