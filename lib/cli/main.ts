#!/usr/bin/env node
import { Command, CommanderError, Option } from "commander";
import { readPackageInfo } from "../base/package_info.js";
import { addBenchServeFlags } from "./bench_flags.js";
import {
  addGenerationFlags,
  collect,
  parseBytes,
  parseDecimal,
  parseHandlerMap,
  parseIds,
  parseInteger,
  parseSpeculation,
} from "./flags.js";

import { exitCodes, reportError } from "./report.js";
import { addServeFlags } from "./serve_flags.js";

/** Commands load their code when they run, so that --help is fast and works without the addon. */
function createProgram(): Command {
  const program = new Command("shardspeed")
    .description("Runs Hugging Face transformer checkpoints on a native engine.")
    .version(readPackageInfo().version, "-V, --version")
    .addHelpText("after", exitCodeHelp)
    .showHelpAfterError("(--help shows the options)")
    .enablePositionalOptions() // options after a script belong to the script
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "shardspeed: ")) });

  const generate = program
    .command("generate")
    .description("Generate text from a prompt, and stream it.")
    .argument("<model>", "model folder: config.json, weights, tokenizer")
    .option("-p, --prompt <text>", "the prompt")
    .option(
      "--prompt-file <file>",
      "file with the prompt, - for the standard input (default if that is not a terminal)",
    )
    .option("--prompt-ids <ids>", "the prompt as token ids: 1,2,3", parseIds)
    .option("--chat", "treat the prompt as a user's message and apply the chat template")
    .option("--system <text>", "system message; implies --chat")
    .option("--chat-template <file>", "Jinja template in place of the model's own; implies --chat");
  addLoadFlags(addGenerationFlags(generate))
    .option("--json", "one JSON document on the standard output, at the end")
    .option("--json-lines", "one JSON document a line for each piece of text, as it is made")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./generate.js")).generate(model, flags));

  addChat(program);
  addServe(program);
  addRun(program);
  addArchive(program);
  addBench(program);

  program
    .command("checkpoints")
    .description("List the weight files of a folder as a DeepSpeed checkpoint JSON.")
    .argument("<folder>", "folder of the weights, searched with its subfolders")
    .option("-o, --out <file>", "output file (default: the standard output)")
    .option(
      "--pattern <glob>",
      "files to list, such as '*.pt'; may be given several times (default: *.[bp][it][n])",
      collect,
    )
    .option("--safetensors", "list *.safetensors too")
    .option("--weights-only", "leave out optimizer states, training arguments and similar files")
    .option("--relative", "write paths relative to the folder")
    .option("--json", "print the JSON on the standard output, also with --out; errors as JSON")
    .addHelpText("after", exitCodeHelp)
    .action(async (folder, flags) => (await import("./checkpoints.js")).checkpoints(folder, flags));

  program
    .command("inspect")
    .description(
      "Show the contents, memory needs and effective configuration of a model folder or an archive. Reads only headers.",
    )
    .argument("<model>", "model folder, or model archive: .mar, .tar.gz, folder")
    .option("--model-config <file>", "model-config.yaml (default: the one in the folder or archive)")
    .option("--config <file>", "DeepSpeed inference config (default: the one that model-config.yaml names)")
    .option(
      "--handler-map <from=to>",
      "handler to run in place of a Python handler: custom_handler.py=TextGenerationHandler",
      parseHandlerMap,
    )
    .option("--adapter <folder>", "PEFT adapter (LoRA) that would be merged into the weights")
    .option("--tensors", "list the tensors of every layer")
    .option("--json", "one JSON document on the standard output")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./inspect.js")).inspect(model, flags));

  program
    .command("doctor")
    .description("Show versions, processor, addon and CUDA, for bug reports.")
    .option("--json", "one JSON document on the standard output")
    .addHelpText("after", exitCodeHelp)
    .action(async (flags) => (await import("./doctor.js")).doctor(flags));
  return program;
}

/** Options of a model that is loaded here. */
function addLoadFlags(command: Command): Command {
  return command
    .option("--config <file>", "DeepSpeed inference config")
    .option("--checkpoint <file>", "DeepSpeed checkpoint JSON: which files hold the weights")
    .option("--base-dir <folder>", "folder of the files that the checkpoint JSON names")
    .option("--adapter <folder>", "PEFT adapter (LoRA) to merge into the weights")
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .addOption(
      new Option("--dtype <dtype>", "element type to compute in (default: from the config, else the model's)").choices([
        "fp32",
        "fp16",
        "bf16",
      ]),
    )
    .option("--tp-size <n>", "number of ranks (default: from the config, else 1)", parseInteger)
    .option("--communication-dtype <type>", "fp32, fp16 or bf16: of what ranks on GPUs add up (default: fp32)")
    .option("--threads <n>", "CPU threads of each rank (default: all processors, divided among ranks)", parseInteger)
    .option("--max-batch-tokens <n>", "maximum number of tokens in a step (default: 512)", parseInteger)
    .option("--kv-cache-bytes <n>", "memory for keys and values, such as 512MB (default: planned)", parseBytes)
    .option(
      "--speculative-config <json>",
      'draft tokens: {"method": "ngram"}, or {"method": "draft", "model": FOLDER} (default: one token a step)',
      parseSpeculation,
    )
    .option("-q, --quiet", "no statistics, progress and warnings on the standard error")
    .option("-v, --verbose", "more messages on the standard error");
}

function addChat(program: Command): void {
  const command = program
    .command("chat")
    .description("Talk with a model in the terminal.")
    .argument("<model>", "model folder: config.json, weights, tokenizer with a chat template")
    .option("--system <text>", "system message")
    .option("--chat-template <file>", "Jinja template in place of the model's own");
  addLoadFlags(addGenerationFlags(command))
    .option("--no-prefix-cache", "compute the whole conversation again for each answer")
    .option("--json", "one JSON document a line for each answer")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./chat.js")).chat(model, flags));
}

function addServe(program: Command): void {
  const command = program
    .command("serve")
    .description("Serve models over HTTP: OpenAI's API, TorchServe's APIs, metrics and a page.")
    .argument("[model]", "model folder or archive: one listener for all. Without it TorchServe's three listeners");
  addServeFlags(command);
  command
    .addHelpText("after", exitCodeHelp)
    .action(async (model, _flags, self) => (await import("./serve.js")).serve(model, self));
}

function addRun(program: Command): void {
  const command = program
    .command("run")
    .description("Start the ranks of a group: a Node script once for each rank.")
    .usage("[options] <script> [args...]")
    .argument("<script>", "script that every rank runs")
    .argument("[args...]", "arguments and options of the script")
    .passThroughOptions()
    .option("--nproc-per-node <n>", "ranks to start on this host", parseInteger, 1)
    .option("--nnodes <n>", "number of hosts; run the command on each", parseInteger, 1)
    .option("--node-rank <n>", "number of this host, from 0", parseInteger)
    .option("--master-addr <host>", "host name or address of host 0 (default: this host)")
    .option(
      "--master-port <port>",
      "first port that rank 0 tries (default: a free port, 29500 on several hosts)",
      parseInteger,
    )
    .option("--no-node", "run the script as a program instead of with Node")
    .option("--no-prefix", "pass the output of the ranks on without the prefix [rank 0]")
    .option("--grace-seconds <s>", "time from SIGTERM to SIGKILL after a rank has failed", parseDecimal, 10);
  // Also in the spelling of torchrun.
  for (const name of ["nproc_per_node", "node_rank", "master_port"]) {
    command.addOption(new Option(`--${name} <n>`).argParser(parseInteger).hideHelp());
  }
  command
    .addOption(new Option("--master_addr <host>").hideHelp())
    .addHelpText("after", runExitCodeHelp)
    .action(async (script, args, { nproc_per_node, node_rank, master_addr, master_port, ...flags }) => {
      const given = {
        nprocPerNode: nproc_per_node,
        nodeRank: node_rank,
        masterAddr: master_addr,
        masterPort: master_port,
      };
      const alike = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      return (await import("./run.js")).run(script, args, { ...flags, ...alike });
    });
}

function addBench(program: Command): void {
  const command = program.command("bench").description("Measure a server.");
  addBenchServeFlags(
    command
      .command("serve")
      .description("Send requests to any server with OpenAI's API, and print throughput and latencies."),
  )
    .addHelpText("after", exitCodeHelp)
    .action(async (flags) => (await import("./bench.js")).bench(flags));
}

function addArchive(program: Command): void {
  program
    .command("archive")
    .description("Pack a handler and its files into a model archive, as torch-model-archiver does.")
    .requiredOption("--model-name <name>", "name of the model and of the archive")
    .requiredOption("-v, --version <version>", "version of the model")
    .requiredOption("--handler <handler>", "file (JavaScript, TypeScript, Python), module:name, or a handler's name")
    .option("--serialized-file <file>", "file with weights")
    .option("--model-file <file>", "file with the model's code")
    .option("--extra-files <list>", "comma-separated files, folders and patterns")
    .option("-r, --requirements-file <file>", "Python packages that the handler needs")
    .option("-c, --config-file <file>", "model-config.yaml")
    .addOption(
      new Option("--archive-format <format>", ".mar, .tar.gz, a folder, or an uncompressed .mar")
        .choices(["default", "tgz", "no-archive", "zip-store"])
        .default("default"),
    )
    .option("--export-path <folder>", "folder for the archive (default: the current folder)")
    .option("-f, --force", "replace an existing archive")
    .addOption(
      new Option("--runtime <runtime>", "the runtime in the manifest")
        .choices(["python", "python3", "LSP"])
        .default("python"),
    )
    .option("-q, --quiet", "write only errors to the standard error")
    .option("--json", "one JSON document on the standard output: { path, files, bytes }")
    .addHelpText("after", exitCodeHelp)
    .action(async (flags) => (await import("./archive.js")).archive(flags));
}

const runExitCodeHelp = `
Exit codes: 0 all ranks ended with 0, else that of the rank that failed first (128 + n: ended by signal n), 2 wrong usage.`;

const exitCodeHelp = `
Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted (143 terminated).`;

async function main(): Promise<void> {
  // Of a script's arguments none is for this program.
  const json = (process.argv.includes("--json") || process.argv.includes("--json-lines")) && process.argv[2] !== "run";
  // A reader that has enough, such as head, is no failure: of help, of messages, of a server's log.
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
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
