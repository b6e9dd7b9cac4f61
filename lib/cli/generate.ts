import { readFile } from "node:fs/promises";
import { ShardspeedError } from "../base/errors.js";
import { decodeText } from "../base/regular_file.js";
import type { Engine } from "../engine/engine.js";
import type { GenerationChunk, GenerationResult } from "../engine/generation.js";
import { type GenerationOptions, resolveGenerationOptions } from "../engine/generation_options.js";
import type { Prompt } from "../engine/prompts.js";
import { readInitOptions } from "../loading/init.js";
import { nameFlags, toGenerationOptions } from "./flags.js";
import { type LoadFlags, loadModel, readChatTemplate, toInitOptions } from "./load_model.js";
import { Output, stderrLogger } from "./output.js";
import { interruptible } from "./report.js";

/** The flags of `shardspeed generate`, as commander hands them over, besides those of the generation options. */
interface GenerateFlags extends LoadFlags {
  prompt?: string;
  promptFile?: string;
  promptIds?: number[];
  chat?: boolean;
  system?: string;
  chatTemplate?: string;
  json?: boolean;
  jsonLines?: boolean;
}

/** What the text is generated from. */
interface Source {
  prompt: string | number[];
  chatTemplate?: string;
}

/** `shardspeed generate`: new text on the standard output as it is made, statistics on the standard error. */
export async function generate(model: string, given: GenerateFlags): Promise<void> {
  // What only a chat has implies one.
  const flags = { ...given, chat: given.chat || given.system !== undefined || given.chatTemplate !== undefined };
  await nameFlags(() => generateText(model, flags));
}

async function generateText(model: string, flags: GenerateFlags): Promise<void> {
  const options = toGenerationOptions(flags);
  // Wrong options are said at once, not after a long load.
  resolveGenerationOptions(options);
  checkFlags(flags, options);
  readInitOptions(toInitOptions(flags));
  const output = new Output(process.stdout);
  // Nobody reads the statistics: no reason to fail.
  process.stderr.on("error", () => {});
  await interruptible(async (signal) => {
    const source = { ...(await readChatTemplate(flags.chatTemplate, signal)), prompt: await readPrompt(flags, signal) };
    try {
      await run(model, source, flags, options, output, AbortSignal.any([signal, output.closed]));
    } catch (error) {
      output.check();
      // The reader has gone: what is left to do is of no use to anybody.
      if (!output.closed.aborted || signal.aborted) throw error;
    }
  });
}

async function run(
  model: string,
  source: Source,
  flags: GenerateFlags,
  options: GenerationOptions,
  output: Output,
  signal: AbortSignal,
): Promise<void> {
  const { engine, loadMs } = await loadModel(model, flags, signal);
  try {
    // Ranks that do not drive compute, and have nothing to say.
    if (!engine.isDriver) return await engine.finished;
    const prompt = toPrompt(source, flags, engine);
    if (flags.jsonLines) {
      for await (const chunk of engine.stream(prompt, { ...options, signal })) {
        await output.write(`${JSON.stringify(chunk)}\n`);
      }
    } else if (flags.json) {
      const result = await engine.generate(prompt, { ...options, signal });
      await output.write(`${JSON.stringify(result)}\n`);
    } else if ((options.n ?? 1) > 1 || (options.numBeams ?? 1) > 1) {
      const result = await engine.generate(prompt, { ...options, signal });
      for (const { text, ids } of result.choices ?? [result])
        await output.write(`${engine.tokenizer ? text : ids.join(" ")}\n`);
      if (!flags.quiet) process.stderr.write(`${statistics({ ...result, ...result.usage }, loadMs)}\n`);
    } else {
      const result = await write(engine, prompt, { ...options, signal }, output);
      if (!flags.quiet) process.stderr.write(`${statistics(result, loadMs)}\n`);
    }
  } finally {
    await engine.dispose();
  }
}

type Statistics = Pick<GenerationResult, "finishReason" | "timings"> & { newTokens: number };

/** Streams the text; ids where there is no tokenizer to make text of them. */
async function write(engine: Engine, prompt: Prompt, options: GenerationOptions, output: Output): Promise<Statistics> {
  const startedAt = performance.now();
  let firstTokenAt = startedAt;
  let newTokens = 0;
  let last: GenerationChunk | undefined;
  for await (const chunk of engine.stream(prompt, options)) {
    if (newTokens === 0) firstTokenAt = performance.now();
    const separator = newTokens === 0 ? "" : " ";
    newTokens += chunk.ids.length;
    last = chunk;
    if (engine.tokenizer) await output.write(chunk.text);
    else if (chunk.ids.length > 0) await output.write(separator + chunk.ids.join(" "));
  }
  const endedAt = performance.now();
  await output.write("\n");
  const decodeSeconds = (endedAt - firstTokenAt) / 1000;
  return {
    newTokens,
    finishReason: last?.finishReason ?? "length",
    timings: {
      firstTokenMs: firstTokenAt - startedAt,
      totalMs: endedAt - startedAt,
      ...(newTokens > 1 && decodeSeconds > 0 ? { tokensPerSecond: (newTokens - 1) / decodeSeconds } : {}),
    },
  };
}

function statistics({ newTokens, finishReason, timings }: Statistics, loadMs: number): string {
  const { firstTokenMs, totalMs, tokensPerSecond } = timings;
  const parts = [
    `${newTokens} new tokens in ${(totalMs / 1000).toFixed(2)} s`,
    ...(tokensPerSecond === undefined ? [] : [`${tokensPerSecond.toFixed(1)} tokens/s`]),
    `first after ${firstTokenMs.toFixed(0)} ms`,
    `loaded in ${(loadMs / 1000).toFixed(2)} s`,
    finishReason === "stop" ? "stopped" : "length reached",
  ];
  return `[${parts.join(", ")}]`;
}

function checkFlags(flags: GenerateFlags, options: GenerationOptions): void {
  const usage = (message: string) => new ShardspeedError("ERR_INVALID_ARGUMENT", message);
  const given = (["prompt", "promptFile", "promptIds"] as const).filter((name) => flags[name] !== undefined);
  if (given.length > 1) throw usage("Give one of --prompt, --prompt-file and --prompt-ids.");
  if (given.length === 0 && process.stdin.isTTY)
    throw usage("There is no prompt: give --prompt, --prompt-file, --prompt-ids or text on the standard input.");
  if (flags.chat && flags.promptIds)
    throw usage("--chat, --system and --chat-template need a prompt of text, and --prompt-ids gives token ids.");
  if (flags.json && flags.jsonLines) throw usage("Give one of --json and --json-lines.");
  for (const [flag, value] of [
    ["--logprobs", options.logprobs],
    ["--prompt-logprobs", options.promptLogprobs],
  ]) {
    if (value !== undefined && !flags.json && !flags.jsonLines) throw usage(`${flag} is for --json and --json-lines.`);
  }
}

async function readPrompt(flags: GenerateFlags, signal: AbortSignal): Promise<string | number[]> {
  if (flags.promptIds !== undefined) return flags.promptIds;
  if (flags.prompt !== undefined) return flags.prompt;
  const file = flags.promptFile ?? "-";
  stderrLogger(flags).debug(`Reading the prompt from ${file === "-" ? "the standard input" : file}`);
  let text: string;
  try {
    text = decodeText(file === "-" ? await readStdin(signal) : await readFile(file, { signal }));
  } catch (error) {
    throw new ShardspeedError("ERR_INVALID_ARGUMENT", `Cannot read the prompt: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (text === "")
    throw new ShardspeedError(
      "ERR_INVALID_ARGUMENT",
      `${file === "-" ? "The standard input" : file} is empty, expected a prompt.`,
    );
  // The newline that ends a file, or echo's output, is not meant to be read by the model.
  return text.replace(/\r?\n$/, "");
}

async function readStdin(signal: AbortSignal): Promise<Buffer> {
  signal.addEventListener("abort", () => process.stdin.destroy(), { once: true });
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  signal.throwIfAborted();
  return Buffer.concat(chunks);
}

function toPrompt({ prompt, ...template }: Source, flags: GenerateFlags, engine: Engine): Prompt {
  if (!flags.chat || typeof prompt !== "string") return prompt;
  if (!engine.tokenizer)
    throw new ShardspeedError("ERR_TOKENIZER", "--chat needs a tokenizer, and the model folder has none.");
  const system = flags.system === undefined ? [] : [{ role: "system", content: flags.system }];
  return engine.tokenizer.applyChatTemplate([...system, { role: "user", content: prompt }], {
    addGenerationPrompt: true,
    ...template,
  });
}
