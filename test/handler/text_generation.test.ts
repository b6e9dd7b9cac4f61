import assert from "node:assert/strict";
import { cpSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { readTextRequest } from "../../dist/handler/text_request.js";
import {
  Context,
  type Engine,
  HandlerService,
  type IntermediateResponse,
  initInference,
  ShardspeedError,
  TextGenerationHandler,
} from "../../dist/index.js";
import { Messages, Scratch } from "../checkpoint/support.js";
import { demoModel, hasCode } from "../support/fixtures.js";

const scratch = new Scratch();
const base = { model_path: demoModel, max_new_tokens: 8 };

async function serve(handler: object | string, more: object = {}, logger?: Messages): Promise<HandlerService> {
  const modelYamlConfig = { deviceType: "cpu", handler, ...more };
  const modelDir = scratch.folder();
  const context = new Context({ modelName: "opt", modelDir, modelYamlConfig, ...(logger ? { logger } : {}) });
  const service = new HandlerService(new TextGenerationHandler(), context);
  await service.initialize();
  return service;
}

describe("TextGenerationHandler on the demo model", () => {
  let service: HandlerService;
  let engine: Engine;
  const logged = new Messages();
  before(async () => {
    engine = await initInference(demoModel, { device: "cpu" });
    service = await serve(base, {}, logged);
  });
  after(async () => {
    await service.dispose();
    await engine.dispose();
  });
  const text = async (prompt: string, options: object = {}) =>
    (await engine.generate(prompt, { maxNewTokens: 8, ...options })).text;
  const answers = async (...bodies: unknown[]) => {
    const outcome = await service.predict(bodies.map((body, i) => ({ id: `${i}`, data: { body } })));
    assert.equal(outcome.message, "Prediction success", String(outcome.error));
    return outcome.responses.map(({ status, body }) => [status, String(body)]);
  };

  test("prompts of unequal length in one batch, as alone", async () => {
    const prompts = ["It is", "It is a truth universally acknowledged, that a single man", "Call"];
    assert.deepEqual(await answers(...prompts), await Promise.all(prompts.map(async (one) => [200, await text(one)])));
  });

  test("a prompt in each form", async () => {
    const expected = [200, await text("It is")];
    const bodies = [
      "It is",
      Buffer.from("It is"),
      { prompt: "It is" },
      { inputs: "It is" },
      { text: "It is" },
      { data: "It is" },
      { prompt: engine.tokenizer?.encode("It is") },
    ];
    assert.deepEqual(
      await answers(...bodies),
      bodies.map(() => expected),
    );
    const rows = [
      { data: "It is" },
      { data: { prompt: "It is" } },
      { prompt: Buffer.from("It is") },
      { text: "It is", body: null },
    ];
    const { responses } = await service.predict(rows.map((data, i) => ({ id: `${i}`, data })));
    assert.deepEqual(
      responses.map(({ status, body }) => [status, String(body)]),
      rows.map(() => expected),
    );
    assert.equal(responses[0]?.contentType, "text/plain; charset=utf-8");
  });

  test("parameters of a request, in both spellings, nested, and as the fields of a form", async () => {
    const three = [200, await text("It is", { maxNewTokens: 3 })];
    const sampled = [200, await text("It is", { temperature: 1, topK: 20, topP: 0.9, seed: 7 })];
    assert.notDeepEqual(sampled, [200, await text("It is")]);
    assert.deepEqual(
      await answers(
        { prompt: "It is", max_new_tokens: 3 },
        { prompt: "It is", maxNewTokens: 3 },
        { inputs: "It is", parameters: { max_new_tokens: 3 } },
        { prompt: "It is", temperature: 1, top_k: 20, topP: 0.9, seed: 7 },
        { prompt: "It is", temperature: null },
        { prompt: "It is", max_new_tokens: null },
      ),
      [three, three, three, sampled, [200, await text("It is")], [200, await text("It is")]],
    );
    const form = { prompt: Buffer.from("It is"), max_new_tokens: Buffer.from("3"), ignore_eos: Buffer.from("true") };
    const { responses } = await service.predict([{ id: "a", data: form }]);
    assert.equal(String(responses[0]?.body), three[1]);
    const stopped = (await text("It is")).slice(4, 7);
    assert.deepEqual(await answers({ prompt: "It is", stop: stopped }), [
      [200, await text("It is", { stop: stopped })],
    ]);
  });

  test("messages and max_tokens, as OpenAI's clients send them", async () => {
    const folder = scratch.folder();
    cpSync(demoModel, folder, { recursive: true });
    writeFileSync(path.join(folder, "chat_template.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}");
    const chat = await serve({ ...base, model_path: folder });
    try {
      const messages = [
        { role: "system", content: "It " },
        { role: "user", content: "is" },
      ];
      const data = { body: { messages, max_tokens: 3 } };
      const { responses } = await chat.predict([{ id: "a", data }]);
      assert.equal(String(responses[0]?.body), await text("It is", { maxNewTokens: 3 }));
      const wrong = await chat.predict([{ id: "a", data: { body: { messages: [] } } }]);
      assert.match(String(wrong.responses[0]?.body), /Expected messages to be an array/);
    } finally {
      await chat.dispose();
    }
  });

  test("details and the full text", async () => {
    const result = await engine.generate("It is", { maxNewTokens: 8 });
    const [full, details] = await answers(
      { prompt: "It is", return_full_text: true },
      { prompt: "It is", details: true },
    );
    assert.deepEqual(full, [200, `It is${result.text}`]);
    assert.deepEqual(JSON.parse(String(details?.[1])), {
      text: result.text,
      ids: result.ids,
      finish_reason: "length",
      usage: { prompt_tokens: result.usage.promptTokens, new_tokens: 8 },
    });
  });

  test("a request that is wrong has its own 400, and the others their texts", async () => {
    const wrong: [unknown, RegExp][] = [
      [{ prompt: "x", max_new_token: 3 }, /Unknown parameter "max_new_token"\. Did you mean max_new_tokens\?/],
      [{ prompt: "x", max_new_tokens: 0 }, /maxNewTokens/],
      [{ prompt: "x", max_new_tokens: "many" }, /maxNewTokens.*many/],
      [{ prompt: "x", top_p: 1, topP: 1 }, /top_p more than once/],
      [{ prompt: "x", stream: "maybe" }, /stream.*true or false/],
      [{ prompt: "x", num_beams: 0 }, /numBeams/],
      [{ prompt: "x", inputs: "y" }, /more than one prompt \(prompt, inputs\)/],
      [{ max_new_tokens: 3 }, /no prompt/],
      [{ prompt: ["x", "y"] }, /prompt to be text/],
      [{ prompt: { secret: 1 } }, /prompt to be text/],
      [7, /prompt to be text.*number/],
      [null, /no prompt/],
      [Buffer.from([0xff]), /UTF-8/],
      [{ prompt: [99_999] }, /prompt/],
      [{ prompt: "x", max_new_tokens: 512 }, /expected no more than 512 together/],
      ["word ".repeat(600), /expected no more than 512 together/],
    ];
    const found = await answers("It is", ...wrong.map(([body]) => body), "Call");
    assert.deepEqual(
      [found.at(0), found.at(-1)],
      [
        [200, await text("It is")],
        [200, await text("Call")],
      ],
    );
    for (const [i, [, message]] of wrong.entries()) {
      const [status, body] = found[i + 1] ?? [];
      assert.equal(status, 400, String(message));
      const error = JSON.parse(String(body));
      assert.deepEqual([error.code, error.type], [400, "BadRequestException"]);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /secret|word word/);
    }
  });

  test("parts of a stream join to the text, beside a request that does not stream", async () => {
    const received: IntermediateResponse[] = [];
    const rows = [{ body: "Call" }, { body: { prompt: "It is", stream: true } }];
    const { responses } = await service.predict(
      rows.map((data, i) => ({ id: `${i}`, data })),
      { onIntermediateResponse: (parts) => void received.push(...parts) },
    );
    assert.ok(received.length > 0 && received.every(({ requestId }) => requestId === "1"));
    const joined = received.map(({ body }) => String(body)).join("") + responses[1]?.body;
    assert.equal(joined, await text("It is"));
    assert.equal(String(responses[0]?.body), await text("Call"));
    assert.deepEqual(await answers({ prompt: "It is", stream: true }), [[200, await text("It is")]]);
  });

  test("a client that has gone ends its request only", async () => {
    const gone = new AbortController();
    gone.abort();
    const { responses } = await service.predict([
      { id: "a", data: { body: "It is" }, signal: gone.signal },
      { id: "b", data: { body: "Call" } },
    ]);
    assert.deepEqual(
      responses.map(({ status }) => status),
      [499, 200],
    );
  });

  test("with continuousBatching batches overlap, and each request has its own text and parts", async () => {
    const overlapping = await serve(base, { continuousBatching: true });
    const prompts = ["It is", "Call", "It is a truth universally acknowledged"];
    const received: Record<string, string> = {};
    const outcomes = await Promise.all(
      prompts.map((prompt, i) =>
        overlapping.predict([{ id: `${i}`, data: { body: { prompt, stream: true } } }], {
          onIntermediateResponse: (parts) => {
            for (const { requestId, body } of parts) received[requestId] = (received[requestId] ?? "") + body;
          },
        }),
      ),
    );
    for (const [i, { responses }] of outcomes.entries()) {
      assert.equal(`${received[i]}${responses[0]?.body}`, await text(prompts[i] as string));
      assert.equal(responses[0]?.contentType, "text/plain; charset=utf-8");
    }
    await overlapping.dispose();
  });

  test("nothing of what was asked is in the log", () => {
    assert.doesNotMatch(logged.all.join("\n"), /It is|Call|secret/);
  });
});

test("a request is read or refused with ERR_INVALID_ARGUMENT, whatever it is", () => {
  const name = fc.constantFrom(
    "prompt",
    "body",
    "data",
    "parameters",
    "top_p",
    "topP",
    "stop",
    "stream",
    "seed",
    "__proto__",
    "constructor",
    "x",
  );
  const value = fc.oneof(
    fc.jsonValue(),
    fc.uint8Array().map(Buffer.from),
    fc.dictionary(name, fc.jsonValue(), { maxKeys: 4 }),
  );
  fc.assert(
    fc.property(fc.dictionary(name, value, { maxKeys: 5 }), (row) => {
      try {
        const { prompt, options } = readTextRequest(row);
        assert.ok(typeof prompt === "string" || prompt.length > 0);
        assert.equal(Object.getPrototypeOf(options), Object.prototype);
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error), String((error as Error).stack));
        assert.equal(error.code, "ERR_INVALID_ARGUMENT");
      }
    }),
    { numRuns: 5000 },
  );
});

describe("the handler's yaml", () => {
  async function first(handler: object | string, body: unknown, more: object = {}): Promise<string> {
    const service = await serve(handler, more);
    try {
      const { responses } = await service.predict([{ id: "a", data: { body } }]);
      return String(responses[0]?.body);
    } finally {
      await service.dispose();
    }
  }

  test("max_length cuts prompts, manual_seed is the seed of sampling, and a request's own parameters win", async () => {
    const yaml = { ...base, max_length: "3", manual_seed: 40, temperature: 1.5 };
    const cut = await first({ ...yaml, temperature: 0 }, "It is a truth universally acknowledged");
    await using engine = await initInference(demoModel, { device: "cpu" });
    const ids = engine.tokenizer?.encode("It is a truth universally acknowledged").slice(0, 3) ?? [];
    assert.equal(cut, (await engine.generate(ids, { maxNewTokens: 8 })).text);
    const sampled = (await engine.generate("It", { maxNewTokens: 8, temperature: 1.5, seed: 40 })).text;
    assert.equal(await first(yaml, "It"), sampled);
    assert.equal(
      await first(yaml, { prompt: "It", temperature: 0 }),
      (await engine.generate("It", { maxNewTokens: 8 })).text,
    );
  });

  test("wrong settings are ERR_CONFIG, unknown ones a warning", async () => {
    const wrong: [object, RegExp][] = [
      [{ ...base, max_new_tokens: 0 }, /handler: .*maxNewTokens/],
      [{ ...base, max_length: 1.5 }, /max_length/],
      [{ ...base, manual_seed: "x" }, /seed/],
      [{ ...base, stream: 3 }, /stream/],
      [{ max_new_tokens: 3 }, /no handler\.model_path/],
      [{ model_path: 7 }, /model_path/],
    ];
    for (const [handler, message] of wrong) await assert.rejects(serve(handler), hasCode("ERR_CONFIG", message));
    await assert.rejects(serve([] as object), hasCode("ERR_CONFIG", /handler.*a map/));
    await assert.rejects(serve({ model_path: "none" }), hasCode("ERR_CHECKPOINT", /none/));
    const logger = new Messages();
    await (await serve({ ...base, model_name: "m", max_new_token: 3 }, {}, logger)).dispose();
    assert.match(logger.all.join("\n"), /warn: .*handler\.max_new_token\. Did you mean max_new_tokens\?/);
  });

  test("an archive that holds the model, named in the yaml or nowhere", async () => {
    const modelDir = scratch.folder();
    cpSync(demoModel, path.join(modelDir, "weights"), { recursive: true });
    for (const [folder, handler] of [
      [modelDir, { model_path: "weights" }],
      [path.join(modelDir, "weights"), "TextGenerationHandler"],
    ] as const) {
      const modelYamlConfig = { deviceType: "cpu", handler };
      const handlerObject = new TextGenerationHandler();
      await handlerObject.initialize(new Context({ modelName: "opt", modelDir: folder, modelYamlConfig }));
      assert.equal(handlerObject.initialized, true);
      await handlerObject.dispose();
    }
  });

  test("with a deepspeed section the engine is that of getDsEngine", async () => {
    const modelDir = scratch.folder({ "ds-config.json": '{"tensor_parallel": {"tp_size": 2}}' });
    const handler = new TextGenerationHandler(async (model, { baseDir, ...options }) => {
      assert.equal(baseDir, demoModel);
      return initInference(model as string, options);
    });
    const modelYamlConfig = { deviceType: "cpu", handler: base, deepspeed: { config: "ds-config.json" } };
    const service = new HandlerService(handler, new Context({ modelName: "opt", modelDir, modelYamlConfig }));
    await service.initialize();
    assert.deepEqual(handler.engine?.module.devices, ["cpu", "cpu"]);
    const { responses } = await service.predict([{ id: "a", data: { body: "It is" } }]);
    await using engine = await initInference(demoModel, { device: "cpu" });
    assert.equal(String(responses[0]?.body), (await engine.generate("It is", { maxNewTokens: 8 })).text);
    await service.dispose();
  });

  test("and without its engine nothing is answered", async () => {
    const service = new HandlerService(new TextGenerationHandler(), new Context({ modelName: "opt", modelDir: "/m" }));
    const { message } = await service.predict([{ id: "a", data: { body: "It is" } }]);
    assert.equal(message, "Prediction failed");
  });
});
