#!/usr/bin/env node
import { Command, CommanderError, Option } from "commander";
import { readPackageInfo } from "../base/package_info.js";
import {
  addGenerationFlags,
  collect,
  parseBytes,
  parseDecimal,
  parseHandlerMap,
  parseIds,
  parseInteger,
} from "./flags.js";

import { exitCodes, reportError } from "./report.js";

/** Commands load their code when they run: help stays quick, and works where the addon does not. */
function createProgram(): Command {
  const program = new Command("shardspeed")
    .description("Runs Hugging Face transformer checkpoints on a native engine.")
    .version(readPackageInfo().version, "-V, --version")
    .addHelpText("after", exitCodeHelp)
    .showHelpAfterError("(--help shows the options)")
    .enablePositionalOptions() // what follows the script of a command is the script's
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
    .option("--checkpoint <file>", "DeepSpeed checkpoint JSON: which files hold the weights")
    .option("--base-dir <folder>", "where the files are that the checkpoint JSON names")
    .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
    .option("--tp-size <n>", "ranks that share the model (default: as the config says, else 1)", parseInteger)
    .option("--threads <n>", "CPU threads of each rank (default: all processors, divided among ranks)", parseInteger)
    .option("--max-batch-tokens <n>", "most tokens a step computes (default: 512)", parseInteger)
    .option("--kv-cache-bytes <n>", "memory for keys and values, such as 512MB (default: chosen)", parseBytes)
    .option("-q, --quiet", "no statistics, progress and warnings on the standard error")
    .option("-v, --verbose", "more messages on the standard error")
    .option("--json", "one JSON document on the standard output, at the end")
    .addHelpText("after", exitCodeHelp)
    .action(async (model, flags) => (await import("./generate.js")).generate(model, flags));

  addRun(program);
  addArchive(program);

  program
    .command("checkpoints")
    .description("List the weight files of a folder as a DeepSpeed checkpoint JSON.")
    .argument("<folder>", "folder of the weights; subfolders are looked into")
    .option("-o, --out <file>", "write it to this file (default: to the standard output)")
    .option(
      "--pattern <glob>",
      "files to list, such as '*.pt'; may be given several times (default: *.[bp][it][n])",
      collect,
    )
    .option("--safetensors", "list *.safetensors too")
    .option("--weights-only", "leave out optimizer states, training arguments and the like")
    .option("--relative", "write paths relative to the folder")
    .option("--json", "the JSON on the standard output, with --out too; errors as JSON")
    .addHelpText("after", exitCodeHelp)
    .action(async (folder, flags) => (await import("./checkpoints.js")).checkpoints(folder, flags));

  program
    .command("inspect")
    .description(
      "Show what a model folder or an archive holds and needs, and its effective configuration. Reads headers only.",
    )
    .argument("<model>", "model folder, or model archive: .mar, .tar.gz, folder")
    .option("--model-config <file>", "model-config.yaml (default: the one in the folder or archive)")
    .option("--config <file>", "DeepSpeed inference config (default: the one that model-config.yaml names)")
    .option(
      "--handler-map <from=to>",
      "what runs a handler of an archive: custom_handler.py=TextGenerationHandler",
      parseHandlerMap,
    )
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

function addRun(program: Command): void {
  const command = program
    .command("run")
    .description("Start the ranks of a group: a Node script several times, each with its own RANK.")
    .usage("[options] <script> [args...]")
    .argument("<script>", "what every rank runs")
    .argument("[args...]", "its arguments: options after the script are the script's")
    .passThroughOptions()
    .option("--nproc-per-node <n>", "ranks to start on this host", parseInteger, 1)
    .option("--nnodes <n>", "hosts that take part; the command is run on each", parseInteger, 1)
    .option("--node-rank <n>", "which of them this is, from 0", parseInteger)
    .option("--master-addr <host>", "host name or address of node 0 (default: this host)")
    .option("--master-port <port>", "where rank 0 is met (default: a free one, 29500 on several hosts)", parseInteger)
    .option("--no-node", "the script is a program of its own, not one for Node")
    .option("--no-prefix", "give the output of the ranks as it is, without [rank 0] before its lines")
    .option("--grace-seconds <s>", "from SIGTERM to SIGKILL, after a rank has failed", parseDecimal, 10);
  // As torchrun writes them too.
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

function addArchive(program: Command): void {
  program
    .command("archive")
    .description("Pack a handler and its files into a model archive, as torch-model-archiver does.")
    .requiredOption("--model-name <name>", "name of the model and of the archive")
    .requiredOption("-v, --version <version>", "version of the model")
    .requiredOption("--handler <handler>", "file (JavaScript, TypeScript, Python), module:name, or a handler's name")
    .option("--serialized-file <file>", "file with weights")
    .option("--model-file <file>", "file with the model's code")
    .option("--extra-files <list>", "files, folders and patterns, with commas between them")
    .option("-r, --requirements-file <file>", "Python packages that the handler needs")
    .option("-c, --config-file <file>", "model-config.yaml")
    .addOption(
      new Option("--archive-format <format>", ".mar, .tar.gz, a folder, or a .mar that is not compressed")
        .choices(["default", "tgz", "no-archive", "zip-store"])
        .default("default"),
    )
    .option("--export-path <folder>", "where to put the archive (default: the current folder)")
    .option("-f, --force", "replace an archive that is there")
    .addOption(
      new Option("--runtime <runtime>", "what the handler is written for, as the manifest says it")
        .choices(["python", "python3", "LSP"])
        .default("python"),
    )
    .option("-q, --quiet", "nothing on the standard error but errors")
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
  const json = process.argv.includes("--json") && process.argv[2] !== "run";
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
