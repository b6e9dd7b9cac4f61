// The AI SDK's provider for servers with OpenAI's API, against a server: node ai_sdk.mjs URL FOLDER_OF_NODE_MODULES
// It needs Node 22. One line a check, as conformance.py writes them.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [url, folder] = process.argv.slice(2);
const require = createRequire(path.join(folder, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const { embed, generateText, streamText } = await load("ai");

const provider = createOpenAICompatible({ name: "shardspeed", baseURL: `${url}/v1`, includeUsage: true });
const options = {
  model: provider.chatModel("demo"),
  prompt: "It is a truth universally acknowledged",
  ...{ maxOutputTokens: 8, temperature: 0, maxRetries: 0 },
};

const checks = {
  "ai-sdk generateText": async () => {
    const { text, usage, finishReason } = await generateText(options);
    expect([usage.outputTokens, finishReason], [8, "length"]);
    if (text === "") throw new Error("The text is empty");
  },
  "ai-sdk streamText": async () => {
    const result = streamText(options);
    const parts = [];
    for await (const part of result.textStream) parts.push(part);
    expect(parts.join(""), (await generateText(options)).text);
    expect([parts.length > 1, (await result.usage).outputTokens, await result.finishReason], [true, 8, "length"]);
  },
  "ai-sdk completion model": async () => {
    const { text } = await generateText({ ...options, model: provider.completionModel("demo") });
    if (text === "") throw new Error("The text is empty");
  },
  "ai-sdk embed": async () => {
    const { embedding } = await embed({ model: provider.embeddingModel("demo"), value: "a", maxRetries: 0 });
    if (!embedding.every(Number.isFinite) || embedding.length === 0) throw new Error("The embedding is wrong");
  },
  "ai-sdk error": async () => {
    const error = await generateText({ ...options, model: provider.chatModel("absent") }).catch((reason) => reason);
    expect([error.statusCode, error.isRetryable], [404, false]);
  },
};

function expect(found, expected) {
  const [one, other] = [found, expected].map((value) => JSON.stringify(value));
  if (one !== other) throw new Error(`found ${one}, expected ${other}`);
}

for (const [name, run] of Object.entries(checks)) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`failed ${name}: ${String(error).replace(/\s+/g, " ").slice(0, 500)}`);
  }
}
