import assert from "node:assert/strict";
import { test } from "node:test";
import type { Engine } from "../../../dist/engine/engine.js";
import type { GenerationChunk } from "../../../dist/engine/generation.js";
import type { GenerationOptions } from "../../../dist/engine/generation_options.js";
import type { GenerateCall, GeneratePart } from "../../../dist/serving/worker/calls.js";
import { runEngineCall } from "../../../dist/serving/worker/engine_calls.js";

/** What a worker makes of an engine that gives these chunks, and the options that the engine gets. */
async function generate(call: Partial<GenerateCall>, chunks: GenerationChunk[]) {
  let seen: GenerationOptions | undefined;
  const engine = {
    contextTokens: 10,
    tokenizer: { idToToken: (id: number) => (id === 2 ? "</s>" : "a"), specialTokenIds: new Set([2]) },
    async *stream(_: number[], options: GenerationOptions) {
      seen = options;
      yield* chunks;
    },
  };
  const parts: GeneratePart[] = [];
  const argument: GenerateCall = { prompt: { ids: [5, 6, 7] }, options: {}, ...call };
  const { signal } = new AbortController();
  await runEngineCall(engine as unknown as Engine, "generate", argument, {
    signal,
    pace: {},
    emit: (part) => parts.push(part),
  });
  const text = parts.map((part) => ("chunk" in part ? part.chunk.text : "")).join("");
  return { text, options: seen };
}

test("special tokens that are asked for are in the text, but for the one that ends it", async () => {
  const chunks: GenerationChunk[] = [
    { text: "</s>a", ids: [2, 5] },
    { text: "b</s>", ids: [6, 2], finishReason: "stop", stopReason: 2 },
  ];
  assert.equal((await generate({ skipSpecialTokens: false }, chunks)).text, "</s>ab");
  const stopped: GenerationChunk[] = [{ text: "a</s>", ids: [5], finishReason: "stop", stopReason: "x" }];
  assert.equal((await generate({ skipSpecialTokens: false }, stopped)).text, "a</s>");
});

test("the least number of new tokens is cut to the room with the most", async () => {
  const { options } = await generate({ options: { maxNewTokens: 50, minNewTokens: 20 } }, []);
  assert.deepEqual([options?.maxNewTokens, options?.minNewTokens], [7, 7]);
});
