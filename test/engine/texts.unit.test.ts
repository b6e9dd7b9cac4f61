import assert from "node:assert/strict";
import { test } from "node:test";
import { readText, readTexts } from "../../dist/engine/texts.js";
import { AutoTokenizer } from "../../dist/index.js";
import { demoModel, hasCode } from "../support/fixtures.js";

/** Counts the turns of the event loop that begin while something is done. */
async function countTurns(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  await work();
  counting = false;
  return turns;
}

/** Takes a millisecond of the thread. */
async function busy(text: unknown, name: string): Promise<string> {
  for (const end = performance.now() + 1; performance.now() < end; );
  return `${name} ${text}`;
}

test("texts are read in their order, with turns of the event loop between them", async () => {
  const texts = Array.from({ length: 50 }, (_, i) => i);
  let read: string[] = [];
  const turns = await countTurns(async () => {
    const reading = readTexts(texts, busy, undefined);
    texts.fill(-1); // what is changed meanwhile does not count
    read = await reading;
  });
  assert.deepEqual(
    read,
    Array.from({ length: 50 }, (_, i) => `texts[${i}] ${i}`),
  );
  assert.ok(turns >= 10, `${turns} turns`);
});

test("a signal ends the reading of texts, and so does one that cannot be read", async () => {
  const controller = new AbortController();
  let count = 0;
  const reading = readTexts(
    Array(1000).fill("a"),
    (text, name) => {
      count++;
      return busy(text, name);
    },
    controller.signal,
  );
  setImmediate(() => controller.abort());
  await assert.rejects(reading, hasCode("ERR_ABORTED"));
  assert.ok(count < 1000, `${count} read`);
  await assert.rejects(
    readTexts(
      [1, 2],
      async () => {
        throw new RangeError("no");
      },
      undefined,
    ),
    RangeError,
  );
});

test("a long text that is cut gives way to other work, and one that is not is refused unread", async () => {
  const tokenizer = await AutoTokenizer.fromPretrained(demoModel);
  const reader = { tokenizer, tokenizerFiles: "", vocabSize: tokenizer.vocabSize, contextTokens: 100 };
  const long = "It was the best of times, it was the worst of times. ".repeat(2000);
  let ids: number[] = [];
  const turns = await countTurns(async () => {
    ids = await readText(reader, long, "texts[0]", 64);
  });
  assert.deepEqual(ids, tokenizer(long, { truncation: true, maxLength: 64 }).inputIds);
  assert.ok(turns >= 5, `${turns} turns`);
  await assert.rejects(
    readText(reader, long, "texts[0]", undefined),
    hasCode("ERR_CONTEXT_LENGTH", /106000 characters in texts\[0\]/),
  );
});
