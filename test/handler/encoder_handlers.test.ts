import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  Context,
  EmbeddingHandler,
  HandlerService,
  initInference,
  QuestionAnsweringHandler,
  SequenceClassificationHandler,
  TokenClassificationHandler,
} from "../../dist/index.js";
import { hasCode } from "../support/fixtures.js";
import { makeSentenceModel } from "../support/sentence_model.js";

// The answers of TorchServe's Huggingface_Transformers example, from what engine.forward() and engine.embed() give.

async function serve(t: TestContext, handler: object, modelDir: string, settings: object = {}, others: object = {}) {
  const modelYamlConfig = { deviceType: "cpu", handler: settings, ...others };
  const service = new HandlerService(handler as never, new Context({ modelName: "enc", modelDir, modelYamlConfig }));
  await service.initialize();
  t.after(() => service.dispose());
  return async (...bodies: unknown[]) => {
    const outcome = await service.predict(bodies.map((body, i) => ({ id: `${i}`, data: { body } })));
    assert.equal(outcome.message, "Prediction success", String(outcome.error));
    return outcome.responses.map(({ status, body }) => ({ status, body: String(body) }));
  };
}

const open = (folder: string) => initInference(folder, { device: "cpu", threads: 1 });
const largest = (values: Float32Array) => values.indexOf(Math.max(...values));

test("SequenceClassificationHandler answers with the name of the class", async (t) => {
  const folder = makeSentenceModel(t, "bert_classifier", {}, { id2label: { 0: "bad", 1: "fair", 2: "good" } });
  await using engine = await open(folder);
  const answers = await serve(t, new SequenceClassificationHandler(), folder);
  const texts = ["one cat", "two dogs and a bird", "x"];
  const expected = (await engine.classify(texts)).map(({ label }) => ({ status: 200, body: label }));
  assert.deepEqual(await answers(texts[0], Buffer.from(texts[1] as string), { text: texts[2] }), expected);
  const [wrong, right] = await answers({ text: 7 }, texts[0]);
  assert.equal(wrong?.status, 400);
  assert.match(wrong?.body ?? "", /Expected text to be a text/);
  assert.deepEqual(right, expected[0]);
});

test("TokenClassificationHandler answers with pairs of token and class", async (t) => {
  const folder = makeSentenceModel(t, "bert_token_classifier");
  await using engine = await open(folder);
  const answers = await serve(t, new TokenClassificationHandler(), folder);
  const ids = engine.tokenizer?.encode("a b c") as number[];
  const { data } = (await engine.forward({ inputIds: [ids] })).logits;
  const expected = ["[CLS]", "a", "b", "c", "[SEP]"].map((token, at) => [
    token,
    `LABEL_${largest(data.slice(at * 5, at * 5 + 5))}`,
  ]);
  const [answer] = await answers("a b c");
  assert.deepEqual(JSON.parse(answer?.body ?? ""), expected);
});

test("QuestionAnsweringHandler answers with a part of the two texts", async (t) => {
  const folder = makeSentenceModel(t, "bert_question_answering");
  await using engine = await open(folder);
  const answers = await serve(t, new QuestionAnsweringHandler(), folder);
  for (const context of ["a b c d e", "w x y z", "k l m n o p q"]) {
    const request = { question: "who?", context };
    const { inputIds, tokenTypeIds } = engine.tokenizer?.encodePair("who?", context) ?? {
      inputIds: [],
      tokenTypeIds: [],
    };
    const { startLogits, endLogits } = await engine.forward({ inputIds: [inputIds], tokenTypeIds: [tokenTypeIds] });
    const part = inputIds.slice(largest(startLogits.data), largest(endLogits.data) + 1);
    const body = engine.tokenizer?.decode(part);
    assert.deepEqual(await answers(request, JSON.stringify(request)), [
      { status: 200, body },
      { status: 200, body },
    ]);
  }
  for (const body of ["no JSON", "null", "7", "[]", { question: "who?" }])
    assert.equal((await answers(body))[0]?.status, 400);
});

test("EmbeddingHandler answers with the numbers of an embedding", async (t) => {
  const folder = makeSentenceModel(t, "bert_base");
  await using engine = await open(folder);
  const answers = await serve(t, new EmbeddingHandler(), folder);
  const { data } = (await engine.embed("a b c")).embeddings;
  const [answer] = await answers("a b c");
  assert.deepEqual(JSON.parse(answer?.body ?? ""), [...data]);
});

test("max_length cuts texts to so many tokens", async (t) => {
  const folder = makeSentenceModel(t, "bert_base");
  await using engine = await open(folder);
  const answers = await serve(t, new EmbeddingHandler(), folder, { max_length: 4 });
  const { data } = (await engine.embed("a b")).embeddings;
  const [answer] = await answers("a b c d e f");
  assert.deepEqual(JSON.parse(answer?.body ?? ""), [...data]);
});

test("a DeepSpeed config of the yaml is followed", async (t) => {
  const folder = makeSentenceModel(t, "bert_base");
  writeFileSync(join(folder, "ds-config.json"), JSON.stringify({ dtype: "fp32", tensor_parallel: { tp_size: 2 } }));
  const handler = new EmbeddingHandler();
  await serve(t, handler, folder, { model_path: "." }, { deepspeed: { config: "ds-config.json" } });
  assert.equal(handler.engine?.module.devices.length, 2);
});

test("settings that are wrong are errors of the yaml", async (t) => {
  const folder = makeSentenceModel(t, "bert_base");
  for (const settings of [{ model_path: 7 }, { max_length: 0 }, { max_length: "long" }])
    await assert.rejects(
      serve(t, new EmbeddingHandler(), folder, settings),
      hasCode("ERR_CONFIG", /handler\.model_path|handler: .*max_length/),
    );
});
