// Loads a model folder and a DeepSpeed config, and writes on from a prompt as the tokens come.
//
//   node examples/demo.mjs [--model DIR] [--config FILE] [--tokens N] [--temperature T] [--seed N] [PROMPT]
//
// The text goes to stdout, everything about it to stderr.
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { initInference, ShardspeedError } from "shardspeed";

const here = path.dirname(fileURLToPath(import.meta.url));

function readCommandLine() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: "string", default: path.join(here, "../models/demo") },
      config: { type: "string", default: path.join(here, "ds-config.json") },
      tokens: { type: "string", default: "120" },
      temperature: { type: "string", default: "0" },
      seed: { type: "string", default: "0" },
    },
  });
  return { ...values, prompt: positionals.join(" ") || "It is a truth universally acknowledged" };
}

/** On a terminal a bar that grows, elsewhere nothing: logs have no use for a hundred lines of it. */
function showProgress(progress) {
  if (!process.stderr.isTTY || progress.phase !== "load") return;
  const share = progress.totalBytes === 0 ? 1 : progress.loadedBytes / progress.totalBytes;
  const bar = "#".repeat(Math.round(share * 30)).padEnd(30, ".");
  process.stderr.write(`\rLoading [${bar}] ${(progress.totalBytes / 1e6).toFixed(1)} MB`);
  if (share === 1) process.stderr.write("\n");
}

async function main() {
  const { model, config, tokens, temperature, seed, prompt } = readCommandLine();
  const began = performance.now();
  const engine = await initInference(model, { config, onProgress: showProgress });
  const name = path.relative(process.cwd(), path.resolve(model)) || model;
  process.stderr.write(`Loaded ${name} in ${((performance.now() - began) / 1000).toFixed(2)} s\n\n`);

  const asked = performance.now();
  let first; // when the first tokens came, and how many these were
  let count = 0;
  process.stdout.write(prompt);
  const options = { maxNewTokens: Number(tokens), temperature: Number(temperature), seed: Number(seed) };
  for await (const chunk of engine.stream(prompt, options)) {
    first ??= { at: performance.now(), count: chunk.ids.length };
    count += chunk.ids.length;
    process.stdout.write(chunk.text);
  }
  const last = performance.now();
  process.stdout.write("\n");
  await engine.dispose();

  const later = count - first.count;
  const rate = later > 0 ? `, then ${((later * 1000) / (last - first.at)).toFixed(1)} tokens/s` : "";
  const memory = (process.resourceUsage().maxRSS / 1024).toFixed(0);
  process.stderr.write(
    `\n${count} tokens, first after ${(first.at - asked).toFixed(0)} ms${rate}; peak memory ${memory} MB\n`,
  );
}

// A reader that has seen enough, such as `head`, is no failure.
process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 0 : 1));

await main().catch((error) => {
  const expected = ShardspeedError.isInstance(error) || String(error.code).startsWith("ERR_PARSE_ARGS");
  process.stderr.write(`${expected ? `${error.code}: ${error.message}` : error.stack}\n`);
  process.exitCode = 1;
});
