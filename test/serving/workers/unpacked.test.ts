import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { packArchive } from "../../../dist/index.js";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import type { ServerSettings } from "../../../dist/serving/settings/table.js";
import { start } from "../../cli/command.js";

// Archives are unpacked once for all workers of a model, and nothing of them stays, however things end.

const free = { isTls: false, host: "127.0.0.1", port: 0 };
const source = `
  export class Telling {
    initialize(context) { this.folder = context.systemProperties.get("model_dir"); }
    handle(data) { return data.map(() => JSON.stringify([this.folder, process.pid])); }
  }`;

let folder: string;
let store: string;
/** TMPDIR of the servers. */
let temporary: string;
const previous = process.env.TMPDIR;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "unpacked-"));
  [store, temporary] = [path.join(folder, "store"), path.join(folder, "tmp")];
  mkdirSync(store);
  mkdirSync(temporary);
  const handler = path.join(folder, "telling.mjs");
  writeFileSync(handler, source);
  await packArchive({ modelName: "telling", version: "1.0", handler, exportPath: store });
  await packArchive({ modelName: "tar", version: "1.0", handler, exportPath: store, archiveFormat: "tgz" });
  process.env.TMPDIR = temporary;
});
after(() => {
  if (previous === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = previous;
  rmSync(folder, { recursive: true });
});

function serve(given: Partial<ServerSettings> = {}): Promise<RunningServer> {
  const addresses = { inferenceAddress: free, managementAddress: { ...free }, metricsAddress: { ...free } };
  const settings = { modelStore: store, enableModelApi: true, logLevel: "silent" as const, ...addresses, ...given };
  return startServer(completeSettings(settings));
}

async function manage({ urls }: RunningServer, method: string, where: string) {
  const answer = await fetch(`${urls.management}${where}`, { method });
  const { type, message } = (await answer.json()) as { type?: string; message?: string };
  return { status: answer.status, type, message };
}

interface Described {
  workers: { status: string; pid: number }[];
}

async function ask(url: string, model: string): Promise<[folder: string, pid: number]> {
  const answer = await fetch(`${url}/predictions/${model}`, { method: "POST", body: "a" });
  assert.equal(answer.status, 200);
  return (await answer.json()) as [string, number];
}

async function askAll(url: string, model: string, workers: number): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (let i = 0; i < 500 && found.size < workers; i++) {
    for (const [place, pid] of await Promise.all([ask(url, model), ask(url, model), ask(url, model)]))
      found.set(pid, place);
  }
  assert.equal(found.size, workers);
  return found;
}

const unpacked = (where = temporary) => readdirSync(where).filter((name) => name.startsWith("shardspeed-unpacked-"));

describe("an archive is unpacked once", () => {
  for (const archive of ["telling.mar", "tar.tar.gz"])
    test(`for two workers, one of which is killed, and removed with its model: ${archive}`, async () => {
      const server = await serve();
      const [model = ""] = archive.split(".");
      try {
        assert.equal((await manage(server, "POST", `/models?url=${archive}&initial_workers=2`)).status, 200);
        const workers = await askAll(server.urls.inference, model, 2);
        const [place = "", ...others] = new Set(workers.values());
        assert.deepEqual(others, [], "both have the same folder");
        const [only = "", ...more] = unpacked();
        assert.deepEqual(more, []);
        assert.ok(place.startsWith(path.join(temporary, only)), place);
        const [killed = 0] = workers.keys();
        process.kill(killed, "SIGKILL");
        const pids = async () => {
          const [described] = (await (await fetch(`${server.urls.management}/models/${model}`)).json()) as [Described];
          return described.workers.filter(({ status }) => status === "READY").map(({ pid }) => pid);
        };
        for (let i = 0; i < 500 && ((await pids()).includes(killed) || (await pids()).length < 2); i++) await sleep(10);
        const again = await askAll(server.urls.inference, model, 2);
        assert.deepEqual([...new Set(again.values())], [place]);
        assert.deepEqual(unpacked(), [only]);
        assert.equal((await manage(server, "DELETE", `/models/${model}`)).status, 200);
        assert.deepEqual(readdirSync(temporary), []);
      } finally {
        await server.stop();
      }
    });

  test("and removed where it is not registered, and when the server ends or is ended", async () => {
    for (const end of ["stop", "kill"] as const) {
      const server = await serve({ loadModels: [{ location: "telling.mar" }] });
      await server.ready;
      const counts = [unpacked().length];
      const again = await manage(server, "POST", "/models?url=telling.mar");
      const wrong = await manage(server, "POST", "/models?url=telling.mar&model_name=a&handler=b");
      counts.push(unpacked().length);
      await server[end]();
      counts.push(unpacked().length);
      assert.deepEqual([again.status, wrong.status, counts], [409, 500, [1, 1, 0]]);
    }
    for (let i = 0; i < 500 && readdirSync(temporary).length > 0; i++) await sleep(10);
    assert.deepEqual(readdirSync(temporary), []);
  });

  test("and removed by the next server where its own was killed", async () => {
    const flags = ["--model-store", store, "--models", "telling.mar", "--default-workers-per-model", "2"];
    const addresses = ["inference", "management", "metrics"].flatMap((api) => [
      `--${api}-address`,
      "http://127.0.0.1:0",
    ]);
    const killed = start(["serve", ...flags, ...addresses], { TMPDIR: temporary });
    let log = "";
    killed.child.stdout.on("data", (text: string) => {
      log += text;
    });
    for (let i = 0; i < 1000 && !log.includes("All models are ready"); i++) await sleep(20);
    const there = unpacked();
    killed.child.kill("SIGKILL");
    await killed.ended;
    assert.equal(there.length, 1, log);
    const left = readdirSync(temporary);
    assert.ok(left.length > 0);
    // Of another machine or container with the same folder, whose processes are not ours.
    const other = (left[0] as string).replace(/-[\da-f]{8}-/, "-00000000-");
    mkdirSync(path.join(temporary, other));
    const server = await serve();
    const kept = readdirSync(temporary);
    await server.stop();
    assert.deepEqual(kept, [other]);
    rmSync(path.join(temporary, other), { recursive: true });
  });
});

test("a registration that finds no room on the disk is 507, and leaves nothing", async (context) => {
  const full = path.join(folder, "full");
  mkdirSync(full);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", full], { stdio: "ignore" });
  } catch {
    context.skip("it needs the right to mount a file system");
    return;
  }
  const many = path.join(folder, "many");
  mkdirSync(many);
  // Blocks of 4 KiB with a byte each: more than there is, though the files are shorter than half of it.
  for (let i = 0; i < 300; i++) writeFileSync(path.join(many, `${i}.txt`), "a");
  const handler = path.join(folder, "telling.mjs");
  await packArchive({ modelName: "many", version: "1.0", handler, extraFiles: many, exportPath: store });
  process.env.TMPDIR = full;
  try {
    const server = await serve();
    const { status, type, message } = await manage(server, "POST", "/models?url=many.mar");
    const left = readdirSync(full);
    const later = await manage(server, "POST", "/models?url=telling.mar");
    await server.stop();
    assert.deepEqual([status, type, left, later.status], [507, "InternalServerException", [], 200], message);
    assert.match(message ?? "", /many\.mar.*no space is left on the device \(ENOSPC\)/);
  } finally {
    process.env.TMPDIR = temporary;
    execFileSync("umount", ["-l", full]);
  }
});

test("two servers share a store, also where both download to it at the same time", async () => {
  const shared = path.join(folder, "shared");
  mkdirSync(shared);
  copyFileSync(path.join(store, "tar.tar.gz"), path.join(shared, "tar.tar.gz"));
  const archive = path.join(store, "telling.mar");
  let release = () => {};
  const both = new Promise<void>((resolve) => {
    release = resolve;
  });
  let asked = 0;
  const files = http.createServer(async (_, response) => {
    if (++asked === 2) release();
    await both;
    response.end(readFileSync(archive));
  });
  await new Promise<void>((resolve) => files.listen(0, "127.0.0.1", resolve));
  const host = `http://127.0.0.1:${(files.address() as AddressInfo).port}`;
  const loadModels = [{ location: "tar.tar.gz" }, { location: `${host}/telling.mar` }];
  const servers = await Promise.all(
    [0, 1].map(() => serve({ modelStore: shared, loadModels, allowedUrls: [`${host}/.*`] })),
  );
  try {
    await Promise.all(servers.map(({ ready }) => ready));
    assert.deepEqual([asked, readdirSync(shared).sort()], [2, ["tar.tar.gz", "telling.mar"]]);
    const [one, other] = servers as [RunningServer, RunningServer];
    for (const model of ["tar", "telling"]) {
      const places = [await ask(one.urls.inference, model), await ask(other.urls.inference, model)].map(
        ([place]) => place,
      );
      assert.equal(new Set(places).size, 2, "each has unpacked its own");
    }
    assert.equal((await manage(one, "DELETE", "/models/telling")).status, 200);
    assert.equal((await manage(other, "PUT", "/models/telling?min_worker=2&synchronous=true")).status, 200);
    await askAll(other.urls.inference, "telling", 2);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    files.close();
  }
});
