import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { ShardspeedError } from "../../dist/base/errors.js";
import { readDeepSpeedJson } from "../../dist/checkpoint/deepspeed_json.js";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { loadGenerationDefaults } from "../../dist/engine/generation_config.js";
import {
  AutoConfig,
  AutoTokenizer,
  DeepSpeedInferenceConfig,
  openArchive,
  readModelConfigYaml,
} from "../../dist/index.js";
import { demoModel } from "../support/fixtures.js";

const scratch = mkdtempSync(path.join(tmpdir(), "shardspeed-hostile-"));
after(() => rmSync(scratch, { recursive: true }));

const deep = (levels: number) => `${'{"a":['.repeat(levels)}1${"]}".repeat(levels)}`;

/** What may stand in a file's place. */
const places: Record<string, (file: string) => void> = {
  "a pipe": (file) => void execFileSync("mkfifo", [file]),
  "a link to a pipe": (file) => {
    execFileSync("mkfifo", [`${file}.pipe`]);
    symlinkSync(`${file}.pipe`, file);
  },
  "a link to /dev/zero": (file) => symlinkSync("/dev/zero", file),
  "a folder": (file) => void mkdirSync(file),
  "a link in a circle": (file) => symlinkSync(file, file),
  "512 MiB of nothing": (file) => {
    writeFileSync(file, "");
    truncateSync(file, 2 ** 29);
  },
};
/** For JSON only: YAML and templates have limits of their own. */
const jsonPlaces: Record<string, (file: string) => void> = {
  ...places,
  "JSON of 200,000 levels": (file) => writeFileSync(file, deep(100_000)),
};

const readers: [name: string, read: (folder: string) => Promise<unknown> | unknown][] = [
  ["config.json", (folder) => AutoConfig.fromPretrained(folder)],
  ["generation_config.json", (folder) => loadGenerationDefaults(folder)],
  ["tokenizer.json", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["tokenizer_config.json", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["special_tokens_map.json", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["added_tokens.json", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["chat_template.json", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["model.safetensors.index.json", (folder) => openCheckpoint(path.join(folder, "model.safetensors.index.json"))],
  ["checkpoints.json", (folder) => readDeepSpeedJson(path.join(folder, "checkpoints.json"))],
  ["ds-config.json", (folder) => DeepSpeedInferenceConfig.parse(path.join(folder, "ds-config.json"))],
  ["MAR-INF/MANIFEST.json", (folder) => openArchive(folder)],
  ["chat_template.jinja", (folder) => AutoTokenizer.fromPretrained(folder)],
  ["model-config.yaml", (folder) => readModelConfigYaml(path.join(folder, "model-config.yaml"))],
];

describe("hostile files in the place of small ones are typed errors that name them", () => {
  for (const [name, read] of readers) {
    const kinds = name.endsWith(".json") ? jsonPlaces : places;
    for (const [kind, make] of Object.entries(kinds)) {
      test(`${name}: ${kind}`, { timeout: 30_000 }, async () => {
        const folder = mkdtempSync(path.join(scratch, "f-"));
        cpSync(demoModel, folder, { recursive: true });
        const file = path.join(folder, name);
        mkdirSync(path.dirname(file), { recursive: true });
        rmSync(file, { force: true });
        make(file);
        await assert.rejects(
          async () => read(folder),
          (error: Error) => {
            assert.ok(ShardspeedError.isInstance(error), `${error}`);
            assert.ok(error.message.includes(file) || error.message.includes(folder), error.message);
            return true;
          },
        );
        rmSync(folder, { recursive: true });
      });
    }
  }
});
