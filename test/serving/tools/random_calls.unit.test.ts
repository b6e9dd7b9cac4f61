import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { joinToolDeltas } from "../../../dist/serving/routes/openai/tools/deltas.js";
import { type ToolFormat, toolFormats } from "../../../dist/serving/routes/openai/tools/format.js";
import { merge, readPieces } from "./pieces.js";

function cut(text: string, places: readonly number[]): string[] {
  const sorted = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((start, i) => text.slice(start, sorted[i]));
}

const names = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/);
const argumentObjects = fc.dictionary(fc.stringMatching(/^[A-Za-z_]\w{0,8}$/), fc.jsonValue({ maxDepth: 4 }), {
  maxKeys: 4,
});
const randomCalls = fc.array(fc.tuple(names, argumentObjects), { minLength: 1, maxLength: 4 });

function toPython(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(toPython).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value as object)
      .map(([key, one]) => `${JSON.stringify(key)}: ${toPython(one)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

type Calls = [string, Record<string, unknown>][];
const writers: Record<string, { format: ToolFormat; write: (calls: Calls) => string }> = {
  hermes: {
    format: "hermes",
    write: (calls) =>
      calls
        .map(([name, value]) => `<tool_call>\n${JSON.stringify({ name, arguments: value }, null, 1)}\n</tool_call>`)
        .join("\n"),
  },
  llama3_json: {
    format: "llama3_json",
    write: (calls) => calls.map(([name, parameters]) => JSON.stringify({ name, parameters })).join("; "),
  },
  mistral: {
    format: "mistral",
    write: (calls) => `[TOOL_CALLS]${JSON.stringify(calls.map(([name, value]) => ({ arguments: value, name })))}`,
  },
  "mistral, newer": {
    format: "mistral",
    write: (calls) => calls.map(([name, value]) => `[TOOL_CALLS]${name}[ARGS]${JSON.stringify(value)}`).join(""),
  },
  pythonic: {
    format: "pythonic",
    write: (calls) =>
      `[${calls
        .map(
          ([name, value]) =>
            `${name}(${Object.entries(value)
              .map(([key, one]) => `${key}=${toPython(one)}`)
              .join(", ")})`,
        )
        .join(", ")}]`,
  },
};

describe("random calls", () => {
  for (const [title, { format, write }] of Object.entries(writers))
    test(`are read back, in pieces of any length: ${title}`, () => {
      fc.assert(
        fc.property(randomCalls, fc.array(fc.nat(), { maxLength: 12 }), (calls, places) => {
          const joined = joinToolDeltas(readPieces(format, cut(write(calls), places)));
          assert.equal(joined.text, "");
          // Of __proto__ and of -0 JSON.parse has its own opinion: so both sides have been through it.
          const found = joined.calls.map((call) => [call.name, JSON.parse(call.arguments)]);
          assert.deepEqual(found, JSON.parse(JSON.stringify(calls)));
        }),
        { numRuns: 300 },
      );
    });
});

const fragments = fc.constantFrom(
  ..."<tool_call>|</tool_call>|[TOOL_CALLS]|[ARGS]|[CALL_ID]|<|python_tag|>|<|python_end|>|name|arguments".split("|"),
  ...[
    '{"name": "f", "arguments": {',
    '"name": "f"',
    '{"name":"g","parameters":{}}',
    "[f(a=",
    "g(",
    "'''",
    "\\u00",
    "\\",
    "True",
    "null",
  ],
  ...[..."{}[]()\"':,;=<>|.-+019eEa \n\u0000é😀"],
  "<|python_tag|>",
  "\ud83d",
);

describe("any text", () => {
  const texts = fc.oneof(
    fc
      .array(fc.oneof(fragments, fc.string({ unit: "binary", maxLength: 4 })), { maxLength: 40 })
      .map((parts) => parts.join("")),
    fc
      .tuple(fc.constantFrom(...Object.values(writers)), randomCalls, fc.nat(), fc.nat(), fragments)
      .map(([{ write }, calls, from, length, extra]) => {
        const text = write(calls);
        const start = from % text.length;
        return text.slice(0, start) + extra + text.slice(start + (length % 5));
      }),
  );
  for (const format of toolFormats)
    test(`gives the same however it is cut, never an error, and whole calls: ${format}`, () => {
      fc.assert(
        fc.property(
          texts,
          fc.array(fc.nat(), { maxLength: 12 }),
          fc.constantFrom("stop", "length"),
          (text, places, reason) => {
            const whole = readPieces(format, [text], { reason: reason as "stop" });
            assert.deepEqual(merge(readPieces(format, cut(text, places), { reason: reason as "stop" })), merge(whole));
            const joined = joinToolDeltas(whole);
            if (joined.calls.length === 0) assert.equal(joined.text, text);
            const complete = reason === "stop" ? joined.calls : joined.calls.slice(0, -1);
            for (const call of complete) assert.equal(typeof JSON.parse(call.arguments), "object");
          },
        ),
        { numRuns: 2000 },
      );
    });

  test("takes time in proportion to its length", () => {
    const hostile: [ToolFormat, (count: number) => string][] = [
      ["hermes", (count) => "<tool_call>".repeat(count)],
      ["hermes", (count) => "<tool_call".repeat(count)],
      ["hermes", (count) => `<tool_call>{"name": "f", "arguments": {"a": "${"\\n".repeat(count)}`],
      ["hermes", (count) => `<tool_call>{"arguments": ${'{"a":['.repeat(count)}`],
      ["hermes", (count) => `<tool_call>{"name": "f"}${" </tool_call>".repeat(count)}`],
      ["llama3_json", (count) => " ".repeat(count * 4)],
      ["llama3_json", (count) => '{"name":"f","parameters":{}};'.repeat(count)],
      ["mistral", (count) => `[TOOL_CALLS][${'{"name":"f","arguments":{}},'.repeat(count)}`],
      ["mistral", (count) => "[TOOL_CALLS]f[ARGS]{}[".repeat(count)],
      ["pythonic", (count) => `[${"f(a='x'),".repeat(count)}`],
      ["pythonic", (count) => `[f(a=${"1".repeat(count)}`],
      ["pythonic", (count) => `[f(a='${"\\x41".repeat(count)}`],
    ];
    const time = (format: ToolFormat, text: string) => {
      const pieces = text.match(/.{1,7}/gs) ?? [];
      const startedAt = performance.now();
      readPieces(format, pieces);
      return performance.now() - startedAt;
    };
    for (const [format, write] of hostile) {
      time(format, write(2000));
      const short = Math.min(...[1, 2, 3].map(() => time(format, write(2000))));
      const long = Math.min(...[1, 2, 3].map(() => time(format, write(32_000))));
      // 16 times as long: a scan that starts over would take 256 times as much.
      assert.ok(long < 100 * Math.max(short, 2), `${format} ${write(1)}: ${short} ms, then ${long} ms`);
    }
  });
});
