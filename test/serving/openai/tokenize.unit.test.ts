import assert from "node:assert/strict";
import { test } from "node:test";
import { detokenizeAnswer, tokenizeAnswer, tokenizerInfoAnswer } from "../../../dist/serving/routes/openai/answers.js";
import { FakeModel, type FakeOptions, makeApp } from "./fake_model.js";

async function post(url: string, body: object, options: FakeOptions = {}) {
  const model = new FakeModel(options);
  const response = await (await makeApp([model])).inject({ method: "POST", url, payload: body });
  assert.equal(model.taken, 0);
  const answer = response.json();
  return { model, status: response.statusCode, answer, fault: [answer.error?.code, answer.error?.param] };
}

test("/tokenize gives a text's ids, and its tokens where they are asked for", async () => {
  for (const url of ["/tokenize", "/v1/tokenize"]) {
    const { answer, model } = await post(url, { prompt: "ab" });
    assert.deepEqual(tokenizeAnswer.parse(answer), { count: 2, max_model_len: 64, tokens: [97, 98], token_strs: null });
    assert.deepEqual(model.called[0]?.argument, { prompt: { text: "ab", addSpecialTokens: true } });
  }
  const { answer, model } = await post("/tokenize", {
    prompt: "ab",
    add_special_tokens: false,
    return_token_strs: true,
  });
  assert.deepEqual(answer.token_strs, ["a", "b"]);
  assert.deepEqual(model.called[0]?.argument, { prompt: { text: "ab", addSpecialTokens: false }, wantsStrings: true });
  assert.equal((await post("/tokenize", { prompt: "" })).answer.count, 0);
});

test("/tokenize renders a conversation as chat completions do", async () => {
  const messages = [{ role: "User", content: "a" }];
  const tools = [{ type: "function", function: { name: "f" } }];
  const { model } = await post("/tokenize", { messages, tools, chat_template_kwargs: { x: 1 } });
  assert.deepEqual(model.called[0]?.argument, {
    prompt: {
      chat: {
        messages: [{ role: "user", content: "a" }],
        tools: [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }],
        addGenerationPrompt: true,
        continueFinalMessage: false,
        templateVariables: { x: 1 },
      },
      addSpecialTokens: false,
    },
  });
  assert.deepEqual((await post("/tokenize", {})).fault, ["missing_required_parameter", "prompt"]);
  assert.deepEqual((await post("/tokenize", { messages: [] })).fault, ["invalid_value", "messages"]);
  const bare = { engine: { tasks: ["generate" as const], chatTemplate: undefined } };
  assert.deepEqual((await post("/tokenize", { messages }, bare)).fault, ["unsupported_task", "model"]);
  assert.deepEqual((await post("/tokenize", { messages, chat_template: "a" })).fault, [
    "unsupported_parameter",
    "chat_template",
  ]);
});

test("/apply-template gives the text of a conversation", async () => {
  const answers: FakeOptions["answers"] = { render: ({ chat }) => ({ text: `${chat.messages.length} messages` }) };
  const { answer } = await post("/apply-template", { messages: [{ role: "user", content: "a" }] }, { answers });
  assert.deepEqual(answer, { prompt: "1 messages" });
  assert.deepEqual((await post("/apply-template", {})).fault, ["missing_required_parameter", "messages"]);
});

test("/detokenize gives the text of ids, however many", async () => {
  const { answer } = await post("/v1/detokenize", { tokens: [97, 98] });
  assert.deepEqual(detokenizeAnswer.parse(answer), { prompt: "ab" });
  assert.deepEqual((await post("/detokenize", { tokens: [] })).answer, { prompt: "" });
  const many = Array.from({ length: 500 }, () => 97);
  assert.equal((await post("/detokenize", { tokens: many })).answer.prompt.length, 500);
  assert.deepEqual((await post("/detokenize", {})).fault, ["missing_required_parameter", "tokens"]);
  assert.deepEqual((await post("/detokenize", { tokens: null })).fault, ["missing_required_parameter", "tokens"]);
  assert.deepEqual((await post("/detokenize", { tokens: "a" })).fault, ["invalid_type", "tokens"]);
  assert.deepEqual((await post("/detokenize", { tokens: [1, "a"] })).fault, ["invalid_type", "tokens[1]"]);
  assert.deepEqual((await post("/detokenize", { tokens: [1000] })).fault, ["invalid_value", "tokens[0]"]);
});

test("/tokenizer_info has the special tokens, where the server shows them", async () => {
  const tokenizer = { bosToken: "<s>", eosToken: "</s>", eosTokenId: 2 };
  const models = [new FakeModel({ engine: { tokenizer } }), new FakeModel({ name: "bare" })];
  const app = await makeApp(models);
  const info = tokenizerInfoAnswer.parse((await app.inject("/tokenizer_info?model=fake")).json());
  assert.deepEqual([info.bos_token, info.eos_token, info.pad_token, info.eos_token_id], ["<s>", "</s>", null, 2]);
  assert.equal(info.model_max_length, 64);
  const bare = await app.inject("/tokenizer_info?model=bare");
  assert.deepEqual([bare.statusCode, bare.json().error.code], [400, "unsupported_task"]);
  const hidden = await makeApp(models, { settings: { tokenizerInfo: false } });
  assert.equal((await hidden.inject("/tokenizer_info")).statusCode, 404);
});
