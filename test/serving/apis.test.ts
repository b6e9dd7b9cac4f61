import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { type RunningServer, startServer } from "../../dist/serving/server.js";
import { completeSettings } from "../../dist/serving/settings/resolve.js";
import { demoModel } from "../support/fixtures.js";

// The APIs beside OpenAI's own, from HTTP to the engine and back.

/** Says nothing but what the user says, so that all APIs have one prompt. */
const template = "{% for m in messages %}{{ m.content }}{% endfor %}{# <tool_call> #}";
const prompt = "It is a truth universally acknowledged";

let folder: string;
let server: RunningServer;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "apis-"));
  const chatTemplate = path.join(folder, "template.jinja");
  writeFileSync(chatTemplate, template);
  const given = { modelFolder: demoModel, host: "127.0.0.1", port: 0, chatTemplate, logLevel: "silent" as const };
  server = await startServer(completeSettings(given));
  await server.ready;
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function post(url: string, body: object): Promise<string> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(server.urls.inference + url, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return text;
}

/** The data of each event. */
function readEvents(text: string): Record<string, unknown>[] {
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data as string));
}

const tensor = (data: unknown[], datatype: string, shape: number[]) => ({ name: "x", datatype, shape, data });

describe("one prompt", () => {
  let text: string;
  before(async () => {
    const answer = await post("/v1/completions", { prompt, max_tokens: 12, temperature: 0 });
    text = JSON.parse(answer).choices[0].text;
  });

  test("has one text in all APIs", async () => {
    const parameters = { max_tokens: 12, temperature: 0 };
    const inputs = [tensor([prompt, prompt], "BYTES", [2])];
    const inferred = JSON.parse(await post("/v2/models/demo/infer", { inputs, parameters }));
    assert.deepEqual(inferred.outputs[0].data, [text, text]);
    const { tokens } = JSON.parse(await post("/tokenize", { prompt }));
    const ids = [tensor(tokens, "INT32", [1, tokens.length])];
    const ofIds = JSON.parse(await post("/v2/models/demo/versions/1.0/infer", { inputs: ids, parameters }));
    assert.deepEqual(ofIds.outputs[0].data, [text]);
    assert.equal(
      JSON.parse(await post("/v2/models/demo/generate", { text_input: prompt, parameters })).text_output,
      text,
    );
    const response = JSON.parse(await post("/v1/responses", { input: prompt, max_output_tokens: 12, temperature: 0 }));
    assert.equal(response.output[0].content[0].text, text);
    const messages = [{ role: "user", content: prompt }];
    const message = JSON.parse(await post("/v1/messages", { ...parameters, messages }));
    assert.equal(message.content[0].text, text);
  });

  test("has it in streams, also where calls of tools are looked for", async () => {
    const parameters = { max_tokens: 12, temperature: 0 };
    const generated = readEvents(await post("/v2/models/demo/generate_stream", { text_input: prompt, parameters }));
    assert.equal(generated.map(({ text_output }) => text_output).join(""), text);
    const input = { input: prompt, max_output_tokens: 12, temperature: 0, stream: true };
    const tools = [{ type: "function", name: "f", parameters: {} }];
    const events = readEvents(await post("/v1/responses", { ...input, tools }));
    const deltas = events.filter(({ type }) => type === "response.output_text.delta");
    assert.equal(deltas.map(({ delta }) => delta).join(""), text);
    const messages = [{ role: "user", content: prompt }];
    const named = [{ name: "f", input_schema: {} }];
    const all = readEvents(await post("/v1/messages", { ...parameters, messages, tools: named, stream: true }));
    const said = all.filter(({ type }) => type === "content_block_delta") as unknown as { delta: { text: string } }[];
    assert.equal(said.map(({ delta }) => delta.text).join(""), text);
  });

  test("has one length", async () => {
    const { count } = JSON.parse(await post("/tokenize", { prompt, add_special_tokens: false }));
    assert.equal(JSON.parse(await post("/v1/responses/input_tokens", { input: prompt })).input_tokens, count);
    const messages = [{ role: "user", content: prompt }];
    assert.equal(JSON.parse(await post("/v1/messages/count_tokens", { messages })).input_tokens, count);
    const { usage } = JSON.parse(await post("/v1/messages", { messages, max_tokens: 2, temperature: 0 }));
    assert.deepEqual([usage.input_tokens, usage.output_tokens], [count, 2]);
  });
});

test("a stop sequence ends a message, and is not in it", async () => {
  const messages = [{ role: "user", content: prompt }];
  const whole = JSON.parse(await post("/v1/messages", { messages, max_tokens: 12, temperature: 0 }));
  const text: string = whole.content[0].text;
  const stop = text.slice(6, 9);
  const cut = JSON.parse(
    await post("/v1/messages", { messages, max_tokens: 12, temperature: 0, stop_sequences: [stop] }),
  );
  assert.deepEqual([cut.stop_reason, cut.stop_sequence], ["stop_sequence", stop]);
  assert.equal(cut.content[0].text, text.slice(0, text.indexOf(stop)));
});

test("KServe's probes and metadata know the model", async () => {
  const get = async (url: string) => (await fetch(server.urls.inference + url)).json();
  assert.deepEqual(await get("/v2/health/ready"), { ready: true });
  assert.deepEqual(await get("/v2/models/demo/ready"), { name: "demo", ready: true });
  assert.deepEqual(((await get("/v2/models/demo")) as { versions: string[] }).versions, ["1.0"]);
});
