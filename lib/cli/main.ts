#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { addGenerationFlags, parseBytes, parseIds, parseInteger } from "./flags.js";
import { exitCodes, reportError } from "./report.js";

/** Commands load their code when they run: help stays quick, and works where the addon does not. */
function createProgram(): Command {
  const program = new Command("shardspeed")
    .description("Runs Hugging Face transformer checkpoints on a native engine.")
    .version(readVersion(), "-V, --version")
    .addHelpText("after", exitCodeHelp)
    .showHelpAfterError("(--help shows the options)")
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "shardspeed: ")) });

  const generate = program
    .command("generate")
    .description("Write text that goes on from a prompt, as it is made.")
    .argument("<model>", "model folder: config.json, weights, tokenizer")
    .option("-p, --prompt <text>", "the prompt")
    .option(
      "--prompt-file <file>",
      "read the prompt from a file, - for the standard input (default where it is no terminal)",
    )
    .option("--prompt-ids <ids>", "the prompt as token ids: 1,2,3", parseIds)
    .option("--chat", "the prompt is a user's message: put it into the model's chat template")
    .option("--system <text>", "system message for --chat");
  addGenerationFlags(generate)
    .option("--config <file>", "DeepSpeed inference config")
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .option("--threads <n>", "CPU threads that load and, on the CPU, compute (default: all processors)", parseInteger)
    .option("--max-batch-tokens <n>", "most tokens a step computes (default: 512)", parseInteger)
    .option("--kv-cache-bytes <n>", "memory for keys and values, such as 512MB (default: chosen)", parseBytes)
    .option("-q, --quiet", "no statistics, progress and warnings on the standard error")
    .option("-v, --verbose", "more messages on the standard error")
    .option("--json", "one JSON document on the standard output, at the end")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./generate.js")).generate(model, flags));

  program
    .command("inspect")
    .description("Show what a model folder holds and needs. Reads headers only.")
    .argument("<model>", "model folder")
    .option("--tensors", "list the tensors of every layer")
    .option("--json", "one JSON document on the standard output")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./inspect.js")).inspect(model, flags));

  program
    .command("doctor")
    .description("Show versions, processor, addon and CUDA: what to put into a bug report.")
    .option("--json", "one JSON document on the standard output")
    .addHelpText("after", exitCodeHelp)
    .action(async (flags) => (await import("./doctor.js")).doctor(flags));
  return program;
}

const exitCodeHelp = `
Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted (143 terminated).`;

function readVersion(): string {
  return JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;
}

async function main(): Promise<void> {
  const json = process.argv.includes("--json");
  try {
    await createProgram().parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      await reportError(error, json);
    } else if (error.exitCode !== 0) {
      process.exitCode = exitCodes.usage;
      const message = error.message.replace(/^error: /, "");
      if (json) process.stdout.write(`${JSON.stringify({ error: { code: "ERR_INVALID_ARGUMENT", message } })}\n`);
    }
  }
}

void main();
