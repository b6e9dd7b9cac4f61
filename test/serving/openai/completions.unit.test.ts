import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { completionSchema } from "../../../dist/serving/routes/openai/fields.js";
import { post, stream } from "./completion_requests.js";
import { type FakeOptions, interleave, readEvents, say, startOf } from "./fake_model.js";

describe("a completion", () => {
  test("has OpenAI's form", async () => {
    const { answer, response, model } = await post({ model: "fake", prompt: "Say", max_tokens: 5 });
    assert.match(answer.id, /^cmpl-[0-9a-f]{24}$/);
    assert.match(answer.system_fingerprint, /^fp_/);
    assert.ok(Math.abs(answer.created - Date.now() / 1000) < 60);
    assert.deepEqual(
      { ...answer, id: "", created: 0, system_fingerprint: "" },
      {
        id: "",
        object: "text_completion",
        created: 0,
        model: "fake",
        system_fingerprint: "",
        choices: [{ index: 0, text: "Hi there.", logprobs: null, finish_reason: "stop", stop_reason: null }],
        usage: {
          prompt_tokens: 3,
          completion_tokens: 3,
          total_tokens: 6,
          prompt_tokens_details: { cached_tokens: 0 },
        },
      },
    );
    assert.match(String(response.headers["x-shardspeed-queue-ms"]), /^\d+$/);
    const { prompt, options } = model.generated[0] as (typeof model.generated)[0];
    assert.deepEqual(prompt, { text: "Say", addSpecialTokens: true });
    assert.equal(options.maxNewTokens, 5);
    assert.equal(options.temperature, 1, "OpenAI's default samples");
  });

  test("passes on every sampling parameter by the engine's names", async () => {
    const { model } = await post({
      prompt: "a",
      ...{ max_tokens: 9, temperature: 0.5, top_p: 0.9, top_k: 7, min_p: 0.1, repetition_penalty: 1.5, min_tokens: 2 },
      ...{ presence_penalty: 0.25, frequency_penalty: -0.25, seed: 42, stop: ["x", "y"], stop_token_ids: [5] },
      ...{ ignore_eos: true, logprobs: 3, skip_special_tokens: false, include_stop_str_in_output: true },
      ...{ add_special_tokens: false, truncate_prompt_tokens: 20, return_token_ids: true },
      ...{ logit_bias: { 5: -100, 999: 2.5 }, allowed_token_ids: [5, 7], bad_words: ["a", " b"], cache_salt: "mine" },
    });
    assert.deepEqual(model.generated[0], {
      prompt: { text: "a", addSpecialTokens: false },
      options: {
        ...{
          maxNewTokens: 9,
          minNewTokens: 2,
          temperature: 0.5,
          topP: 0.9,
          topK: 7,
          minP: 0.1,
          repetitionPenalty: 1.5,
        },
        ...{ presencePenalty: 0.25, frequencyPenalty: -0.25, seed: 42, stop: ["x", "y"], stopTokenIds: [5] },
        ...{ ignoreEos: true, logprobs: 3 },
        ...{ logitBias: { 5: -100, 999: 2.5 }, allowedTokenIds: [5, 7], badWords: ["a", " b"], cacheSalt: "mine" },
      },
      truncatePromptTokens: 20,
      skipSpecialTokens: false,
      includeStopString: true,
      wantsPromptIds: true,
    });
  });

  test("refuses biases, tokens and words that are none", async () => {
    for (const [field, values] of Object.entries({
      logit_bias: [{ 5: 101 }, { 5: -100.5 }, { a: 1 }, { "-1": 1 }, { 1000: 1 }, [1], { 5: "1" }],
      allowed_token_ids: [[1000], [-1], ["1"], [0.5], 3],
      cache_salt: ["", "\ud800", "a".repeat(129), 5],
      bad_words: ["a", [""], [1], ["\ud800"], new Array(1001).fill("a")],
    })) {
      for (const value of values) {
        const { answer, response } = await post({ prompt: "a", [field]: value });
        assert.equal(response.statusCode, 400, `${field} ${JSON.stringify(value).slice(0, 40)}`);
        assert.ok((answer.error.param as string).startsWith(field), answer.error.param);
      }
    }
  });

  test("takes null for absent in every field", async () => {
    const { shape } = completionSchema;
    const nulls = Object.fromEntries(
      [...Object.keys(shape), "user", "suffix", "logit_bias", "made_up"].map((k) => [k, null]),
    );
    const { response, model } = await post({ ...nulls, prompt: "a" });
    assert.equal(response.statusCode, 200, response.body);
    const plain = await post({ prompt: "a" });
    assert.deepEqual(model.generated, plain.model.generated);
  });

  test("uses generation_config.json unless told otherwise, and never the request's less", async () => {
    const engine = { generationDefaults: { temperature: 0.6, topK: 20, maxNewTokens: 4, doSample: false } };
    const used = (await post({ prompt: "a", top_k: -1 }, { engine })).model.generated[0]?.options;
    assert.deepEqual([used?.temperature, used?.topK, used?.maxNewTokens], [0.6, 0, 4]);
    const none = (await post({ prompt: "a" }, { engine }, { generationConfig: "none" })).model.generated[0]?.options;
    assert.deepEqual([none?.temperature, none?.topK, none?.maxNewTokens], [1, 0, 16]);
    const settings = { overrideGenerationConfig: { temperature: 0.1, top_k: 3 } };
    const over = (await post({ prompt: "a" }, { engine }, settings)).model.generated[0]?.options;
    assert.deepEqual([over?.temperature, over?.topK, over?.maxNewTokens], [0.1, 3, 4]);
    assert.equal(
      (await post({ prompt: "a", max_tokens: 12 }, { engine })).model.generated[0]?.options.maxNewTokens,
      12,
    );
  });

  test("maps odd values of parameters", async () => {
    const sent = async (body: object) => (await post({ prompt: "a", ...body })).model.generated[0]?.options;
    const greedy = await sent({ top_p: 0 });
    assert.deepEqual([greedy?.topP, greedy?.topK], [1, 1]);
    assert.equal((await sent({ seed: -1 }))?.seed, 2n ** 64n - 1n);
    assert.equal((await sent({ seed: 1e19 }))?.seed, 10_000_000_000_000_000_000n);
    assert.equal((await sent({ max_tokens: 1e9 }))?.maxNewTokens, 64, "as many as the context has");
    assert.deepEqual((await sent({ stop: "." }))?.stop, ["."]);
    assert.deepEqual((await sent({ stop: [] }))?.stop, []);
    assert.equal((await sent({}))?.stop, undefined, "the model's own count");
  });

  test("takes all forms of prompts, prompt after prompt", async () => {
    for (const [prompt, count] of [
      ["ab", 1],
      [["ab", "cd"], 2],
      [[97, 98], 1],
      [[[97], [98, 99]], 2],
    ] as const) {
      const { answer, model } = await post({ prompt, echo: true });
      assert.equal(answer.choices.length, count);
      assert.equal(model.mostTaken, count);
      assert.deepEqual(
        answer.choices.map(({ index }: { index: number }) => index),
        Array.from({ length: count }, (_, i) => i),
      );
    }
    const { answer } = await post({ prompt: [[97], [98, 99]], echo: true });
    assert.deepEqual(
      answer.choices.map(({ text }: { text: string }) => text),
      ["aHi there.", "bcHi there."],
    );
    assert.equal(answer.usage.prompt_tokens, 3);
  });

  test("of many prompts has no signal with many listeners, of which Node warns", async () => {
    const warnings: string[] = [];
    const note = ({ message }: Error) => warnings.push(message);
    process.on("warning", note);
    await post({ prompt: Array.from({ length: 50 }, () => "a"), max_tokens: 1 });
    await post({ prompt: Array.from({ length: 50 }, () => [1]), max_tokens: 1, echo: true });
    await new Promise(setImmediate);
    process.off("warning", note);
    assert.deepEqual(warnings, []);
  });

  test("replaces halves of characters in a prompt", async () => {
    const { model } = await post({ prompt: "a\ud800b" });
    assert.deepEqual(model.generated[0]?.prompt, { text: "a\uFFFDb", addSpecialTokens: true });
  });

  test("of no new tokens only counts, and echoes", async () => {
    const { answer, model } = await post({ prompt: ["ab", "cde"], max_tokens: 0, echo: true, return_token_ids: true });
    assert.equal(model.generated.length, 0);
    assert.deepEqual(
      answer.choices.map(({ text, finish_reason }: { text: string; finish_reason: string }) => [text, finish_reason]),
      [
        ["ab", "length"],
        ["cde", "length"],
      ],
    );
    assert.deepEqual(answer.choices[0].prompt_token_ids, [97, 98]);
    assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens], [5, 0]);
    const { answer: silent } = await post({ prompt: "ab", max_tokens: 0 });
    assert.equal(silent.choices[0].text, "");
  });

  test("names the stop string and the request's stop token, not the model's own", async () => {
    const reason = async (stopReason: string | number, body = {}) =>
      (await post({ prompt: "a", ...body }, { script: say(["x"], { stopReason }) })).answer.choices[0].stop_reason;
    assert.equal(await reason("\n"), "\n");
    assert.equal(await reason(7, { stop_token_ids: [7] }), 7);
    assert.equal(await reason(2), null);
  });

  test("gives token ids where they are asked for", async () => {
    const { answer } = await post({ prompt: "ab", return_token_ids: true });
    assert.deepEqual(answer.choices[0].prompt_token_ids, [97, 98]);
    assert.deepEqual(answer.choices[0].token_ids, [0, 1, 2]);
  });
});

describe("a stream of a completion", () => {
  test("is chunks of one form, the last of a choice with its reason", async () => {
    const { chunks, response } = await stream({ prompt: "a" });
    assert.match(String(response.headers["content-type"]), /^text\/event-stream/);
    assert.equal(response.headers["cache-control"], "no-cache");
    assert.equal(response.headers["x-accel-buffering"], "no");
    assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
    assert.deepEqual(
      chunks.map(({ choices }) => [choices[0]?.text, choices[0]?.finish_reason]),
      [
        ["Hi", null],
        [" there", null],
        [".", "stop"],
      ],
    );
    assert.ok(chunks.every((chunk) => !("usage" in chunk)));
  });

  test("has the usage of all prompts at its end, and null before, where it is asked for", async () => {
    const { chunks } = await stream({ prompt: ["a", "bc"], stream_options: { include_usage: true } });
    const last = chunks.at(-1);
    assert.deepEqual(last?.choices, []);
    assert.equal(last?.usage?.prompt_tokens, 3);
    assert.equal(last?.usage?.completion_tokens, 6);
    assert.ok(chunks.slice(0, -1).every(({ usage }) => usage === null));
  });

  test("has the usage so far in each chunk for continuous_usage_stats", async () => {
    const { chunks } = await stream({
      prompt: "ab",
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    assert.deepEqual(
      chunks.map(({ usage }) => [usage?.prompt_tokens, usage?.completion_tokens]),
      [
        [2, 1],
        [2, 2],
        [2, 3],
        [2, 3],
      ],
    );
  });

  test("has the tokens of the prompt that were in the prefix cache, from the first chunk on", async () => {
    const script: FakeOptions["script"] = async function* (call, signal) {
      for await (const parts of say(["a", "b"])(call, signal))
        yield parts.map((part) => ("start" in part ? { start: { ...part.start, cachedTokens: 2 } } : part));
    };
    const body = { prompt: "abc", stream_options: { include_usage: true, continuous_usage_stats: true } };
    const { chunks } = await stream({ ...body, timings: true }, { script });
    for (const { usage } of chunks) assert.deepEqual(usage?.prompt_tokens_details, { cached_tokens: 2 });
    const { prompt_n, cache_n } = chunks.at(-1)?.timings ?? {};
    assert.deepEqual([prompt_n, cache_n], [1, 2]);
    const { answer } = await post({ prompt: "abc" }, { script });
    assert.deepEqual(answer.usage.prompt_tokens_details, { cached_tokens: 2 });
  });

  test("has the prompt in each choice's first chunk for echo", async () => {
    const { chunks } = await stream({ prompt: ["ab", "cd"], echo: true });
    const firsts = [0, 1].map((index) => chunks.find(({ choices }) => choices[0]?.index === index)?.choices[0]?.text);
    assert.deepEqual(firsts, ["abHi", "cdHi"]);
  });

  test("leaves out chunks without text, but not their log-probabilities", async () => {
    const script = say(["", "", "é"]);
    assert.equal((await stream({ prompt: "a" }, { script })).chunks.length, 1);
    const { chunks } = await stream({ prompt: "a", logprobs: 0 }, { script });
    assert.equal(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.tokens ?? []).length, 3);
  });

  test("has timings on request, with and without usage", async () => {
    const { chunks } = await stream({ prompt: "a", timings: true });
    assert.equal(chunks.at(-1)?.timings?.predicted_n, 3);
    const { answer } = await post({ prompt: "a", timings: true });
    assert.equal(answer.timings.prompt_n, 1);
    assert.ok(answer.timings.queue_ms >= 0);
  });

  test("gives the text of the answer that is no stream, however it is split", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: "grapheme", maxLength: 5 }), { minLength: 1, maxLength: 12 }),
        fc.boolean(),
        async (texts, echo) => {
          const script = say(texts);
          const body = { prompt: ["p", "qr"], echo, logprobs: echo ? undefined : 0, return_token_ids: true };
          const { answer } = await post(body, { script });
          const { chunks } = await stream(body, { script });
          for (const whole of answer.choices) {
            const parts = chunks.flatMap(({ choices }) => choices.filter(({ index }) => index === whole.index));
            assert.equal(parts.map(({ text }) => text).join(""), whole.text);
            assert.equal(whole.text, (echo ? ["p", "qr"][whole.index] : "") + texts.join(""));
            assert.deepEqual(
              parts.flatMap(({ token_ids }) => token_ids ?? []),
              whole.token_ids,
            );
            assert.deepEqual(parts[0]?.prompt_token_ids, whole.prompt_token_ids);
            const offsets = parts.flatMap(({ logprobs }) => logprobs?.text_offset ?? []);
            assert.deepEqual(offsets, whole.logprobs?.text_offset ?? []);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe("a completion that fails", () => {
  const failing = (error: Error, before: string[] = []): FakeOptions["script"] =>
    async function* (call, signal) {
      if (before.length > 0) yield* say([...before, ""], { finishReason: undefined as never })(call, signal);
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw error;
    };

  test("before the first token has its own status, stream or not", async () => {
    for (const isStream of [true, false]) {
      const error = new ShardspeedError("ERR_NUMERIC", "The model computed NaN.");
      const { response } = await post({ prompt: "a", stream: isStream }, { script: failing(error) });
      assert.equal(response.statusCode, 500);
      assert.equal(response.headers["x-should-retry"], "false");
      assert.deepEqual(response.json().error, {
        message: "The model computed NaN.",
        type: "server_error",
        param: null,
        code: "engine_error",
      });
    }
  });

  test("in its stream is an error event ahead of the end", async () => {
    const error = new ShardspeedError("ERR_NUMERIC", "The model computed NaN.");
    const { response, model } = await post({ prompt: "a", stream: true }, { script: failing(error, ["Hi"]) });
    assert.equal(response.statusCode, 200);
    const events = readEvents(response.body) as { error?: { code: string } }[];
    assert.equal(events.at(-1), "[DONE]");
    assert.equal(events.at(-2)?.error?.code, "engine_error");
    assert.equal(model.taken, 0);
  });

  test("ends its other prompts too", async () => {
    let runs = 0;
    const script: FakeOptions["script"] = async function* (call, signal) {
      yield [startOf(call)];
      if (runs++ === 0) throw new ShardspeedError("ERR_OUT_OF_MEMORY", "No memory.");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      yield [{ chunk: { text: "late", ids: [1] } }];
    };
    const { response, model } = await post({ prompt: ["a", "b", "c"] }, { script });
    assert.equal(response.statusCode, 507);
    assert.equal(model.aborted, 3 - 1);
  });

  test("for its length says so in the words that clients look for", async () => {
    const error = Object.assign(new ShardspeedError("ERR_CONTEXT_LENGTH", "Too long."), {
      details: { promptTokens: 70 },
    });
    const { response } = await post({ prompt: "a" }, { script: failing(error) });
    const known = response.json().error;
    assert.equal(response.statusCode, 400);
    assert.match(
      known.message,
      /^This model's maximum context length is 64 tokens\. However, you requested 70 tokens \(70 in the prompt, 0 in the completion\)\. Please reduce the length of the messages or completion\.$/,
    );
    assert.deepEqual(
      [known.code, known.param, known.n_prompt_tokens, known.n_ctx],
      ["context_length_exceeded", "prompt", 70, 64],
    );
    const ids = await post({ prompt: Array.from({ length: 64 }, () => 1) });
    assert.equal(ids.response.json().error.n_prompt_tokens, 64);
    assert.equal(ids.model.generated.length, 0);
    const unknown = await post(
      { prompt: "a" },
      { script: failing(new ShardspeedError("ERR_CONTEXT_LENGTH", "Long.")) },
    );
    assert.match(unknown.response.json().error.message, /maximum context length is 64 tokens\. Your request/);
  });

  test("for more new tokens than there is room only where the server is strict", async () => {
    const body = { prompt: "abcd", max_tokens: 62 };
    assert.equal((await post(body)).response.statusCode, 200);
    const { response, model } = await post(body, {}, { strictMaxTokens: true });
    assert.equal(response.statusCode, 400);
    assert.match(response.json().error.message, /you requested 66 tokens \(4 in the prompt, 62 in the completion\)/);
    assert.equal(model.taken, 0);
  });
});

describe("several choices of a prompt", () => {
  const texts = ["ab", "c", "def"];

  test("are one behind another, prompt by prompt", async () => {
    const { answer, model } = await post({ prompt: ["x", "y"], n: 3, best_of: 3 }, { script: interleave(texts) });
    assert.deepEqual(
      answer.choices.map(({ index, text }: { index: number; text: string }) => [index, text]),
      [...texts, ...texts].map((text, index) => [index, text]),
    );
    assert.deepEqual(
      model.generated.map(({ options }) => options.n),
      [3, 3],
    );
    assert.equal(model.mostTaken, 6);
    assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens], [2, 12]);
  });

  test("name their index in a stream", async () => {
    const { chunks } = await stream({ prompt: ["x", "y"], n: 3, echo: true }, { script: interleave(texts) });
    for (const [index, text] of ["xab", "xc", "xdef", "yab", "yc", "ydef"].entries()) {
      const own = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      assert.equal(own.map((choice) => choice.text).join(""), text);
      assert.equal(own.at(-1)?.finish_reason, "stop");
    }
  });

  test("of no new tokens are there too", async () => {
    const { answer } = await post({ prompt: "x", n: 2, max_tokens: 0, echo: true });
    assert.deepEqual(
      answer.choices.map(({ index, text }: { index: number; text: string }) => [index, text]),
      [
        [0, "x"],
        [1, "x"],
      ],
    );
  });

  test("the best of more are not looked for", async () => {
    const { response, answer } = await post({ prompt: "x", n: 2, best_of: 3 });
    assert.deepEqual([response.statusCode, answer.error.param], [400, "best_of"]);
  });
});

describe("a beam search", () => {
  test("is asked for by n, as vLLM's, and does not sample", async () => {
    const body = { prompt: "x", use_beam_search: true, n: 4, length_penalty: 0.5, early_stopping: "never" };
    const { model } = await post({ ...body, temperature: 0.7 }, { script: interleave(["a", "b", "c", "d"]) });
    const { n, numBeams, lengthPenalty, earlyStopping, temperature, stop } = model.generated[0]?.options ?? {};
    assert.deepEqual([n, numBeams, lengthPenalty, earlyStopping, temperature, stop], [4, 4, 0.5, "never", 0, []]);
  });

  test("is no stream, and knows no stop strings", async () => {
    const beams = { prompt: "x", use_beam_search: true, n: 2 };
    for (const [body, param] of [
      [{ ...beams, stream: true }, "use_beam_search"],
      [{ ...beams, stop: "a" }, "stop"],
      [{ ...beams, early_stopping: "always" }, "early_stopping"],
    ] as const) {
      const { response, answer } = await post(body);
      assert.deepEqual([response.statusCode, answer.error.param], [400, param]);
    }
  });
});
