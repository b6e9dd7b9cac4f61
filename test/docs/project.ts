import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { createCheckpointsJson, packArchive } from "../../dist/index.js";
import { makeTemporaryFolder, root } from "../package/programs.js";
import { demoModel, fixture } from "../support/fixtures.js";
import { codeBlocks } from "./documents.js";

/** A chat template in the form that many models use. */
const chatTemplate =
  "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}" +
  "{% if add_generation_prompt %}<assistant>{% endif %}";

export interface Project {
  folder: string;
  remove: () => Promise<void>;
}

/** A project of a user, with the package installed and the files that the pages speak of. */
export async function makeProject(): Promise<Project> {
  const { folder, remove } = await makeTemporaryFolder();
  const inside = (...parts: string[]) => path.join(folder, ...parts);
  const example = (name: string) => path.join(root, "examples/opt-deepspeed", name);
  for (const name of ["models/chat", "models/opt-30b", "tokenizer", "node_modules/.bin"])
    await mkdir(inside(name), { recursive: true });

  await writeFile(inside("package.json"), JSON.stringify({ private: true, type: "module" }));
  await symlink(path.resolve(root), inside("node_modules/shardspeed"));
  await symlink(path.join(root, "node_modules/@types"), inside("node_modules/@types"));
  await writeFile(
    inside("node_modules/.bin/shardspeed"),
    `#!/bin/sh\nexec "${process.execPath}" "${path.join(root, "dist/cli/main.js")}" "$@"\n`,
  );
  await chmod(inside("node_modules/.bin/shardspeed"), 0o755);

  await symlink(demoModel, inside("models/demo"));
  for (const name of ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"])
    await symlink(path.join(demoModel, name), inside("models/chat", name));
  const settings = JSON.parse(await readFile(path.join(demoModel, "tokenizer_config.json"), "utf8"));
  await writeFile(
    inside("models/chat/tokenizer_config.json"),
    JSON.stringify({ ...settings, chat_template: chatTemplate }),
  );
  for (const name of ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "config.json"])
    await symlink(fixture("forms/opt_bin_sharded", name), inside("models/opt-30b", name));

  await copyFile(path.join(demoModel, "tokenizer.json"), inside("tokenizer/tokenizer.json"));
  for (const name of ["handler.mjs", "opt_handler.mjs"]) await copyFile(example("opt_handler.mjs"), inside(name));
  await copyFile(example("ds-config.json"), inside("ds-config.json"));
  const yaml = await readFile(example("model-config.yaml"), "utf8");
  await writeFile(inside("model-config.yaml"), yaml.replaceAll("/models/opt-30b", demoModel));
  await writeFile(inside("script.mjs"), await launchScript());
  return { folder, remove };
}

/** The script that docs/launch.md shows, which its commands start. */
async function launchScript(): Promise<string> {
  const file = "docs/launch.md";
  const page = { file, text: await readFile(path.join(root, file), "utf8") };
  const script = codeBlocks(page).find(({ language }) => language === "js");
  if (script === undefined) throw new Error(`${file} shows no script`);
  return script.code;
}

/** The files that commands of the documents make, and their programs read. */
export async function makeInputs({ folder }: Project): Promise<void> {
  const inside = (...parts: string[]) => path.join(folder, ...parts);
  await createCheckpointsJson(inside("models/opt-30b"), inside("checkpoints.json"));
  await packArchive({
    modelName: "opt",
    version: "1.0",
    handler: inside("opt_handler.mjs"),
    configFile: inside("model-config.yaml"),
    extraFiles: [inside("ds-config.json")],
    archiveFormat: "tgz",
    exportPath: folder,
  });
}
