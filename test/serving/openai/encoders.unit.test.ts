import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  classifyAnswer,
  embeddingsAnswer,
  rerankAnswer,
  scoreAnswer,
} from "../../../dist/serving/routes/openai/answers.js";
import { description, FakeModel, type FakeOptions, makeApp } from "./fake_model.js";

const width = 2;
/** A text's embedding is its length and 1; of ids their number and 1. */
const embed: NonNullable<FakeOptions["answers"]>["embed"] = ({ texts }) => ({
  values: Float32Array.from(texts.flatMap((text) => [text.length, 1])),
  width,
  promptTokens: texts.length * 3,
});
const embedder: FakeOptions = { engine: { tasks: ["embed"] }, answers: { embed } };

function classifier(labels: string[]): FakeOptions {
  return {
    engine: { tasks: ["classify", "score"], info: { ...description.info, labels } },
    answers: {
      classify: ({ texts }) => ({
        results: texts.map((text) => {
          const length = typeof text === "string" ? text.length : text.text.length * 10 + text.textPair.length;
          return { label: labels[0], scores: labels.map((_, i) => (i + 1) / (length + 1)), logits: [] };
        }),
        promptTokens: 5,
      }),
    },
  };
}

async function post(url: string, body: object, options: FakeOptions) {
  const model = new FakeModel(options);
  const response = await (await makeApp([model])).inject({ method: "POST", url, payload: body });
  assert.equal(model.taken, 0);
  const answer = response.json();
  return { model, status: response.statusCode, answer, fault: [answer.error?.code, answer.error?.param] };
}

describe("embeddings", () => {
  const ask = (body: object, options = embedder) => post("/v1/embeddings", body, options);

  test("are numbers, or float32 in base64", async () => {
    const { answer } = await ask({ input: ["ab", "abc"] });
    embeddingsAnswer.parse(answer);
    assert.match(answer.id, /^embd-/);
    assert.deepEqual(answer.data, [
      { object: "embedding", index: 0, embedding: [2, 1] },
      { object: "embedding", index: 1, embedding: [3, 1] },
    ]);
    assert.deepEqual(answer.usage, { prompt_tokens: 6, total_tokens: 6 });
    const { answer: packed } = await ask({ input: ["ab", "abc"], encoding_format: "base64" });
    embeddingsAnswer.parse(packed);
    const bytes = Buffer.from(packed.data[1].embedding, "base64");
    assert.deepEqual([bytes.readFloatLE(0), bytes.readFloatLE(4), bytes.length], [3, 1, 8]);
  });

  test("are of all forms of input", async () => {
    for (const [input, texts] of [
      ["ab", ["ab"]],
      [
        ["a", "b"],
        ["a", "b"],
      ],
      [[1, 2, 3], [[1, 2, 3]]],
      [
        [[1], [2, 3]],
        [[1], [2, 3]],
      ],
    ]) {
      const { model, answer } = await ask({ input, normalize: true, truncate_prompt_tokens: -1 });
      assert.deepEqual(model.called[0]?.argument, { texts, normalize: true, truncatePromptTokens: -1 });
      assert.equal(answer.data.length, texts?.length);
    }
  });

  test("refuse what they cannot be made of", async () => {
    for (const [body, code, param] of [
      [{}, "missing_required_parameter", "input"],
      [{ input: "" }, "invalid_value", "input"],
      [{ input: ["a", ""] }, "invalid_value", "input[1]"],
      [{ input: [] }, "invalid_value", "input"],
      [{ input: [[1], [1000]] }, "invalid_value", "input[1][0]"],
      [{ input: Array.from({ length: 2049 }, () => "a") }, "invalid_value", "input"],
      [{ input: Array.from({ length: 65 }, () => 1) }, "context_length_exceeded", "input"],
      [{ input: "a", encoding_format: "hex" }, "invalid_value", "encoding_format"],
      [{ input: "a", dimensions: 1 }, "unsupported_parameter", "dimensions"],
      [{ input: "a", embed_dtype: "float16" }, "unsupported_parameter", "embed_dtype"],
      [{ input: "a", messages: [] }, "unsupported_parameter", "messages"],
    ] as const) {
      const { status, fault } = await ask(body);
      assert.deepEqual([status, ...fault], [400, code, param], JSON.stringify(body).slice(0, 80));
    }
    assert.equal((await ask({ input: "a", dimensions: 2, user: "ann", embed_dtype: "float32" })).status, 200);
    assert.deepEqual((await ask({ input: "a" }, {})).fault, ["unsupported_task", "model"]);
  });
});

describe("classes", () => {
  test("are of each text, with all probabilities", async () => {
    for (const url of ["/classify", "/v1/classify"]) {
      const { answer } = await post(url, { input: ["a", "abc"] }, classifier(["no", "yes"]));
      classifyAnswer.parse(answer);
      assert.deepEqual(answer.data, [
        { index: 0, label: "no", probs: [0.5, 1], num_classes: 2 },
        { index: 1, label: "no", probs: [0.25, 0.5], num_classes: 2 },
      ]);
    }
  });

  test("need texts and a head", async () => {
    const options = classifier(["no", "yes"]);
    assert.deepEqual((await post("/classify", {}, options)).fault, ["missing_required_parameter", "input"]);
    assert.deepEqual((await post("/classify", { input: [] }, options)).fault, ["invalid_value", "input"]);
    assert.deepEqual((await post("/classify", { input: 1 }, options)).fault, ["invalid_type", "input"]);
    assert.deepEqual((await post("/classify", { input: "a" }, embedder)).fault, ["unsupported_task", "model"]);
  });
});

describe("scores", () => {
  test("compare one text with several, or pair by pair", async () => {
    const cross = classifier(["score"]);
    const { answer, model } = await post("/score", { text_1: "a", text_2: ["b", "cd"] }, cross);
    scoreAnswer.parse(answer);
    assert.deepEqual(
      answer.data.map(({ score }: { score: number }) => score),
      [1 / 12, 1 / 13],
    );
    assert.deepEqual(model.called[0]?.argument, {
      texts: [
        { text: "a", textPair: "b" },
        { text: "a", textPair: "cd" },
      ],
    });
    const pairs = await post("/v1/score", { queries: ["a", "bc"], documents: ["d", "e"] }, cross);
    assert.deepEqual(pairs.model.called[0]?.argument, {
      texts: [
        { text: "a", textPair: "d" },
        { text: "bc", textPair: "e" },
      ],
    });
  });

  test("are cosines where the model makes embeddings", async () => {
    const { answer, model } = await post("/score", { text_1: "ab", text_2: ["c", "de"] }, embedder);
    assert.deepEqual(
      answer.data.map(({ score }: { score: number }) => score),
      [2 * 1 + 1, 2 * 2 + 1],
    );
    assert.deepEqual(model.called[0]?.argument, { texts: ["ab", "c", "de"], normalize: true });
  });

  test("rank documents", async () => {
    const cross = classifier(["score"]);
    const body = { query: "a", documents: ["long text", { text: "b" }, "cd"], top_n: 2 };
    const { answer } = await post("/v1/rerank", body, cross);
    rerankAnswer.parse(answer);
    assert.deepEqual(
      answer.results.map(({ index, document }: { index: number; document: { text: string } }) => [
        index,
        document.text,
      ]),
      [
        [1, "b"],
        [2, "cd"],
      ],
    );
    assert.equal((await post("/rerank", { ...body, top_n: 0 }, cross)).answer.results.length, 3);
  });

  test("need texts that fit, and a model that scores", async () => {
    const cross = classifier(["score"]);
    const three = { text_1: ["a", "b"], text_2: ["a", "b", "c"] };
    assert.deepEqual((await post("/score", three, cross)).fault, ["invalid_value", "text_1"]);
    assert.deepEqual((await post("/score", { text_1: "a" }, cross)).fault, ["missing_required_parameter", "text_2"]);
    assert.deepEqual((await post("/score", { text_1: "a", text_2: "b" }, classifier(["a", "b"]))).fault, [
      "unsupported_task",
      "model",
    ]);
    assert.deepEqual((await post("/rerank", { query: "a", documents: [1] }, cross)).fault, [
      "invalid_type",
      "documents[0]",
    ]);
    assert.deepEqual((await post("/rerank", { documents: ["a"] }, cross)).fault, [
      "missing_required_parameter",
      "query",
    ]);
  });
});
