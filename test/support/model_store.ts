import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type PackOptions, packArchive } from "../../dist/index.js";
import { fixture } from "./fixtures.js";

/** A model store with the archives that test/fixtures/torchserve was recorded from, with handlers in JavaScript. */
export async function makeModelStore(): Promise<{ folder: string; remove(): void }> {
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-store-"));
  const sources = mkdtempSync(path.join(tmpdir(), "shardspeed-handlers-"));
  const failing = path.join(sources, "failing_handler.mjs");
  const reason = "failing_handler has no deepspeed config in model config yaml file";
  writeFileSync(failing, `export class FailingHandler { initialize() { throw new Error("${reason}"); } handle() {} }`);
  const echo = fixture("serving", "echo_handler.mjs");
  const pack = (modelName: string, handler: string, more: Partial<PackOptions> = {}) =>
    packArchive({ modelName, version: "1.0", handler, exportPath: folder, ...more });
  const recorded = fixture("torchserve", "handlers");
  const opt = {
    handler: fixture("serving", "deepspeed_handler.mjs"),
    extraFiles: path.join(recorded, "ds-config.json"),
    requirementsFile: path.join(recorded, "requirements.txt"),
    configFile: path.join(recorded, "model-config.yaml"),
  };
  await pack("echo", echo);
  await pack("echo2", echo, { version: "2.0" });
  await pack("failing", failing);
  await pack("opt", opt.handler, { ...opt, archiveFormat: "tgz" });
  await pack("optdir", opt.handler, { ...opt, archiveFormat: "no-archive" });
  rmSync(sources, { recursive: true });
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}
