// Packs this example, opens the archive, loads the handler in it with tp_size 2, and sends it a batch.
//
//   node examples/opt-deepspeed/run.mjs [--model DIR] [PROMPT...]
//
// The answers go to stdout, a line each, everything else to stderr.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openModel, packArchive } from "shardspeed";

const here = path.dirname(fileURLToPath(import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { model: { type: "string", default: path.join(here, "../../models/demo") } },
});
const prompts =
  positionals.length > 0 ? positionals : [await readFile(path.join(here, "sample_text.txt"), "utf8"), "Call me"];

const say = (message) => process.stderr.write(`${message}\n`);
const logger = { debug() {}, info: say, warn: say, error: say };

/** The example's files as an archive; the weights are not in it, so the yaml says where they are. */
async function pack(folder) {
  const yaml = await readFile(path.join(here, "model-config.yaml"), "utf8");
  const configFile = path.join(folder, "model-config.yaml");
  await writeFile(configFile, yaml.replaceAll('"/models/opt-30b"', JSON.stringify(path.resolve(values.model))));
  const { path: file } = await packArchive({
    modelName: "opt",
    version: "1.0",
    handler: path.join(here, "opt_handler.mjs"),
    extraFiles: [path.join(here, "ds-config.json")],
    configFile,
    archiveFormat: "tgz",
    exportPath: folder,
  });
  return file;
}

/** What a server does for one model and one batch. */
async function serve(file) {
  const model = await openModel(file, { settings: { batchSize: prompts.length }, logger });
  try {
    const requests = prompts.map((prompt, i) => ({ id: `${i}`, data: { body: Buffer.from(prompt) } }));
    const { code, message, responses } = await model.service.predict(requests);
    if (code !== 200) throw new Error(`${code} ${message}`);
    for (const { body } of responses) process.stdout.write(`${body.toString().replaceAll("\n", " ")}\n`);
  } finally {
    await model.dispose();
  }
}

const folder = await mkdtemp(path.join(tmpdir(), "opt-deepspeed-"));
try {
  await serve(await pack(folder));
} finally {
  await rm(folder, { recursive: true });
}
