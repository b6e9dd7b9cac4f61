import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AllowedUrls } from "../../../dist/serving/sources/allowed_urls.js";
import { download, WriteError } from "../../../dist/serving/sources/download.js";
import { ModelSources, type ModelSourcesOptions } from "../../../dist/serving/sources/model_sources.js";

let server: http.Server;
let host: string;
let store: string;
let log: string[];
/** What the server does with a path. */
const routes = new Map<string, (request: IncomingMessage, response: ServerResponse) => void>();
const content = Buffer.from("model ".repeat(50_000));

before(async () => {
  server = http.createServer((request, response) => {
    const [name = ""] = (request.url ?? "").split("?");
    const route = routes.get(name);
    if (route === undefined) response.writeHead(404).end("no");
    else route(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  routes.clear();
  routes.set("/a.mar", (_, response) => response.writeHead(200, { "content-length": content.length }).end(content));
  log = [];
  store = mkdtempSync(path.join(tmpdir(), "shardspeed-sources-"));
});

afterEach(() => rmSync(store, { recursive: true, force: true }));

const say = (message: string) => {
  log.push(message);
};

function makeSources(options: Partial<ModelSourcesOptions> = {}): ModelSources {
  return new ModelSources({
    modelStore: store,
    allowedUrls: ["http://127\\.0\\.0\\.1:\\d+/.*"],
    downloadLimitBytes: 1_000_000,
    downloadTimeoutS: 10,
    logger: { debug: say, info: say, warn: say, error: say },
    ...options,
  });
}

async function fetchModel(url: string, sources = makeSources(), isStart = false): Promise<string> {
  const { location } = await sources.locate(url, { isStart });
  return typeof location === "string" ? location : location();
}

/** Of a download that fails; nothing of it is left. */
async function failure(url: string, sources?: ModelSources): Promise<[number, string, string]> {
  const earlier = readdirSync(store);
  const error = await fetchModel(url, sources).then(
    (file) => assert.fail(`${file} was downloaded`),
    (reason) => reason as { status: number; type: string; message: string },
  );
  assert.deepEqual(readdirSync(store), earlier);
  return [error.status, error.type, error.message];
}

describe("a model of another server", () => {
  test("is copied to the store, under the name in its URL; the log has neither query nor password", async () => {
    const sources = makeSources({
      allowedUrls: ["http://u:p@127\\.0\\.0\\.1:\\d+/.*", "http://127\\.0\\.0\\.1:\\d+/.*"],
    });
    const url = `${host.replace("//", "//u:p@")}/a.mar?signature=secret`;
    const located = await sources.locate(url);
    assert.deepEqual([located.url, located.isCopy], [`${host}/a.mar`, true]);
    const file = await (located.location as () => Promise<string>)();
    assert.equal(file, path.join(store, "a.mar"));
    assert.deepEqual(readFileSync(file), content);
    assert.deepEqual(readdirSync(store), ["a.mar"]);
    assert.match(log.join("\n"), /Downloading http.*a\.mar to[\s\S]*Downloaded http.*300000 bytes/);
    assert.doesNotMatch(log.join("\n"), /secret|u:p/);
  });

  test("is followed through redirections that are allowed", async () => {
    routes.set("/1", (_, response) => response.writeHead(302, { location: "/2?x" }).end());
    routes.set("/2", (_, response) => response.writeHead(307, { location: `${host}/a.mar` }).end());
    assert.deepEqual(readFileSync(await fetchModel(`${host}/1`)), content);
    routes.set("/loop", (_, response) => response.writeHead(301, { location: "/loop" }).end());
    assert.match((await failure(`${host}/loop`))[2], /redirects more than 5 times/);
    routes.set("/out", (_, response) =>
      response.writeHead(302, { location: host.replace("127.0.0.1", "localhost") }).end(),
    );
    const out = await failure(`${host}/out`);
    assert.deepEqual(out.slice(0, 2), [404, "ModelNotFoundException"]);
    assert.match(out[2], /redirects to http:\/\/localhost:\d+\/, which does not match any allowed URL/);
    routes.set("/file", (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end());
    const both = makeSources({ allowedUrls: [".*", "http://127\\.0\\.0\\.1:\\d+/.*"] });
    assert.deepEqual((await failure(`${host}/file`, both)).slice(0, 2), [404, "ModelNotFoundException"]);
  });

  test("of a private network is asked only where an expression names the host", async () => {
    let asked = 0;
    routes.set("/a.mar", (_, response) => {
      asked++;
      response.end(content);
    });
    const any = makeSources({ allowedUrls: ["https?://.*"] });
    const port = new URL(host).port;
    for (const name of ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"]) {
      const [status, type, message] = await failure(`http://${name}:${port}/a.mar`, any);
      assert.deepEqual([status, type], [404, "ModelNotFoundException"], name);
      assert.match(message, /must name the host/);
    }
    assert.equal(asked, 0);
    const named = makeSources({ allowedUrls: [`http://localhost:${port}/.*`] });
    await fetchModel(`http://localhost:${port}/a.mar`, named);
    assert.equal(asked, 1);
  });

  test("that is not whole, too large or slow leaves nothing", async () => {
    routes.set("/cut", (_, response) => {
      response.writeHead(200, { "content-length": content.length });
      response.write(content.subarray(0, 1000), () => response.destroy());
    });
    routes.set("/chunks", (_, response) => {
      response.writeHead(200);
      response.write(content.subarray(0, 1000), () => response.destroy());
    });
    routes.set("/large", (_, response) => response.writeHead(200, { "content-length": 2_000_000 }).end());
    routes.set("/endless", (_, response) => {
      const write = (): void => void (response.destroyed || response.write(content, write));
      write();
    });
    routes.set("/none", (_, response) => response.writeHead(403).end());
    routes.set("/silent", (_, response) => response.writeHead(200, { "content-length": 5 }).write("a"));
    for (const [name, reason] of [
      ["/cut", /aborted|the connection ended/],
      ["/chunks", /aborted|the connection ended/],
      ["/large", /larger than 1000000 bytes/],
      ["/endless", /larger than 1000000 bytes/],
      ["/none", /answered with the status 403/],
      ["/missing", /answered with the status 404/],
    ] as const) {
      const [status, type, message] = await failure(host + name);
      assert.deepEqual([status, type], [400, "DownloadArchiveException"], name);
      assert.match(message, reason);
      assert.ok(message.startsWith(`Failed to download archive from: ${host}${name}: `), message);
    }
    assert.match((await failure(`${host}/silent`, makeSources({ downloadTimeoutS: 0.1 })))[2], /longer than 0.1 s/);
    const gone = await failure("http://127.0.0.1:1/a.mar");
    assert.deepEqual([gone[0], gone[1]], [400, "DownloadArchiveException"]);
    const secure = makeSources({ allowedUrls: ["https://127\\.0\\.0\\.1.*"] });
    assert.equal((await failure(`${host.replace("http", "https")}/a.mar`, secure))[1], "DownloadArchiveException");
  });

  test("needs room on the disk", async () => {
    const huge = makeSources({ downloadLimitBytes: Number.MAX_SAFE_INTEGER });
    routes.set("/huge", (_, response) => response.writeHead(200, { "content-length": 2 ** 52 }).flushHeaders());
    const [status, type, message] = await failure(`${host}/huge`, huge);
    assert.deepEqual([status, type], [507, "InternalServerException"]);
    assert.match(message, /^Failed to save model: .*the model store has room for \d+$/);
    if (!existsSync("/dev/full")) return;
    const full = await open("/dev/full", "w");
    const options = { limitBytes: 1e6, timeoutMs: 5000, idleMs: 5000, signal: new AbortController().signal };
    const allowed = new AllowedUrls(["http://127\\.0\\.0\\.1.*"]);
    await assert.rejects(
      download(new URL(`${host}/a.mar`), full, { ...options, allowed, onProgress: () => {} }),
      (error) => error instanceof WriteError && (error.cause as { code: string }).code === "ENOSPC",
    );
    await full.close();
    const none = makeSources({ modelStore: path.join(store, "none") });
    assert.deepEqual((await failure(`${host}/a.mar`, none)).slice(0, 2), [500, "InternalServerException"]);
  });

  test("does not replace what is in the store; at a start that is taken", async () => {
    let release = () => {};
    let begun = () => {};
    const asked = new Promise<void>((resolve) => {
      begun = resolve;
    });
    routes.set("/b.mar", (_, response) => {
      response.writeHead(200).write("first");
      release = () => response.end();
      begun();
    });
    const sources = makeSources();
    const first = fetchModel(`${host}/b.mar`, sources);
    await asked;
    const second = await fetchModel(`${host}/b.mar`, sources).catch((error) => error);
    assert.deepEqual([second.status, second.type], [409, "ConflictStatusException"]);
    assert.equal(second.message, "Model file already exists b.mar");
    // Another server with the same store is faster.
    writeFileSync(path.join(store, "b.mar"), "other");
    release();
    assert.equal((await first.catch((error) => error)).status, 409);
    assert.equal(readFileSync(path.join(store, "b.mar"), "utf8"), "other");
    assert.equal((await failure(`${host}/b.mar`))[0], 409);
    assert.equal(await fetchModel(`${host}/b.mar`, makeSources(), true), path.join(store, "b.mar"));
    assert.deepEqual(readdirSync(store), ["b.mar"]);
  });

  test("ends with the server; what a killed one left is removed", async () => {
    const sources = makeSources();
    const begun = new Promise<void>((resolve) => {
      routes.set("/b.mar", (_, response) => {
        response.writeHead(200).write("first");
        resolve();
      });
    });
    const coming = fetchModel(`${host}/b.mar`, sources).catch((error) => error.message);
    await begun;
    for (let i = 0; i < 500 && readdirSync(store).length === 0; i++) await sleep(2);
    const [part = ""] = readdirSync(store);
    assert.match(part, /^\.shardspeed-download-[\da-f]{8}-\d+-/);
    sources.close();
    assert.match(await coming, /the server is shutting down/);
    assert.deepEqual(readdirSync(store), []);
    const left = part.replace(/-\d+-/, "-4194305-");
    const ofOthers = [part, part.replace(/-[\da-f]{8}-\d+/, "-00000000-4194305"), ".shardspeed-download-x"];
    for (const name of [left, ...ofOthers]) writeFileSync(path.join(store, name), "");
    await fetchModel(`${host}/a.mar`);
    assert.deepEqual(readdirSync(store).sort(), [...ofOthers, "a.mar"].sort());
  });
});

describe("a URL is refused", () => {
  test("that is not allowed, or has no name of a file", async () => {
    const status = async (url: string, options?: Partial<ModelSourcesOptions>) =>
      (await fetchModel(url, makeSources(options)).catch((error) => error)).status;
    assert.equal(await status("https://a.example/a.mar"), 404);
    assert.equal(await status("s3://bucket/a.mar"), 404);
    assert.equal(await status("s3://bucket/a.mar", { allowedUrls: [".*"] }), 400);
    assert.equal(await status(`${host}/a/../a.mar`), 404);
    assert.equal(await status(`${host}/a.mar`, { modelStore: undefined }), 404);
    for (const end of ["/", "/.hidden", "/%2e%2e", "/a%2fb", "/a%00", "/%zz", `/${"a".repeat(250)}`, "/a%0ab"])
      assert.equal(await status(host + end), 400, end);
    // What looks allowed, and is another host to whoever reads it as a URL.
    assert.equal(await status("http://good\\@127.0.0.1/a.mar", { allowedUrls: ["http://good\\\\.*"] }), 404);
  });

  test("of a file that is only spelled as one of those that are allowed", async () => {
    mkdirSync(path.join(store, "in"));
    writeFileSync(path.join(store, "in", "a.mar"), "");
    writeFileSync(path.join(store, "b.mar"), "");
    const sources = makeSources({ modelStore: undefined, allowedUrls: [`file://${store}/in/.*`] });
    assert.equal(await fetchModel(`file://${store}/in/a.mar`, sources), path.join(store, "in", "a.mar"));
    for (const wrong of [`file://${store}/in/%2e%2e/b.mar`, `file://${store}/in/../b.mar`, `${store}/b.mar`])
      assert.equal((await failure(wrong, sources))[0], 404, wrong);
    assert.equal((await failure(`file://other${store}/in/a.mar`, makeSources({ allowedUrls: [".*"] })))[0], 400);
  });
});
