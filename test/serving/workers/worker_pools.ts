import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { packArchive, type Settings } from "../../../dist/index.js";
import type { ModelPool, PoolObserver } from "../../../dist/serving/model_pool.js";
import { ModelRegistry, type RegistryOptions } from "../../../dist/serving/registry.js";
import type { GeneratePart } from "../../../dist/serving/worker/calls.js";
import { fixture } from "../../support/fixtures.js";

// Pools of workers whose processes are real, with temporary files of their own, for the tests of what the server does with them.

export const never = new AbortController().signal;
export const messages: string[] = [];
const note = (message: string) => void messages.push(message);

export let folder: string;
export let echo: string;
const outside = process.env.TMPDIR;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "shardspeed-pool-"));
  process.env.TMPDIR = path.join(folder, "tmp");
  mkdirSync(process.env.TMPDIR);
  const handler = fixture("serving", "echo_handler.mjs");
  echo = (await packArchive({ modelName: "echo", version: "1.0", handler, exportPath: folder })).path;
});
after(() => {
  if (outside === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = outside;
  rmSync(folder, { recursive: true });
});

export function makeRegistry(options: Partial<RegistryOptions> = {}, observer: PoolObserver = {}): ModelRegistry {
  return new ModelRegistry({
    server: { deviceType: "cpu" },
    maxConcurrentRequests: 8,
    maxQueuedSequences: 4,
    requestTimeoutMs: 0,
    handlerMap: {},
    engineOptions: {},
    streamIntervalMs: 0,
    logger: { debug: note, info: note, warn: note, error: note },
    observe: () => observer,
    ...options,
  });
}

/** Serves a model for as long as `use` takes. */
export async function withModel(
  location: string,
  settings: Settings,
  use: (pool: ModelPool) => Promise<void>,
  options: Partial<RegistryOptions> = {},
  observer: PoolObserver = {},
): Promise<void> {
  const registry = makeRegistry(options, observer);
  const { pool, minWorkers } = await registry.register({ location, settings });
  try {
    await pool.replicas.scaleTo(minWorkers);
    await use(pool);
  } finally {
    await registry.dispose(5000);
  }
}

let count = 0;
export async function ask(pool: ModelPool, text: string, signal = never): Promise<string> {
  const parts = [{ name: "body", contentType: "text/plain", value: text }];
  const { code, message, response } = await pool.predict({ id: `r${count++}`, parts, headers: {} }, { signal });
  return code === 200 ? String(response.body) : `${code} ${message}`;
}

export async function generate(pool: ModelPool, text: string, maxNewTokens: number, signal = never): Promise<string> {
  const reservation = pool.reserve();
  let all = "";
  const take = (parts: GeneratePart[]) => {
    for (const part of parts) if ("chunk" in part) all += part.chunk.text;
  };
  const argument = { prompt: { text }, options: { maxNewTokens, ignoreEos: true } };
  try {
    await pool.call("generate", argument, { reservation, signal, onPart: take });
    return all;
  } finally {
    reservation.release();
  }
}

export async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !what(); i++) await sleep(10);
  assert.ok(what(), `in time: ${what}`);
}
