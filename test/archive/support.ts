import assert from "node:assert/strict";
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import tar from "tar-stream";
import { type OpenArchiveOptions, openArchive, packArchive, ShardspeedError } from "../../dist/index.js";

export const fixtures = fileURLToPath(new URL("../../test/fixtures/torchserve/", import.meta.url));
export const handlers = path.join(fixtures, "handlers");
export const archives = path.join(fixtures, "archives");
export const echoHandler = path.join(handlers, "echo_handler.py");

/** A folder of its own for the tests of a file, with the system's folder for temporary files in it. */
export class Scratch {
  folder = "";
  /** What `os.tmpdir()` is meanwhile. */
  temporary = "";
  #count = 0;

  constructor() {
    const outside = process.env.TMPDIR;
    before(() => {
      this.folder = mkdtempSync(path.join(tmpdir(), "archive-test-"));
      this.temporary = this.make("tmp");
      process.env.TMPDIR = this.temporary;
    });
    after(() => {
      if (outside === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = outside;
      rmSync(this.folder, { recursive: true });
    });
  }

  /** A new folder. */
  make(name = `folder-${this.#count++}`): string {
    const folder = path.join(this.folder, name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  /** A file in a new folder, or a whole tree of them. */
  write(name: string, data: Uint8Array | string): string {
    const file = path.join(this.make(), name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, data);
    return file;
  }

  tree(files: Readonly<Record<string, string | Uint8Array>>): string {
    const folder = this.make();
    for (const [name, data] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), data);
    }
    return folder;
  }

  assertNothingLeft(): void {
    assert.deepEqual(readdirSync(this.temporary), []);
  }

  /** Asserts that an archive is refused, and that nothing of it is left. */
  async refuses(archive: string, message: RegExp, options?: OpenArchiveOptions): Promise<void> {
    const around = listTree(this.folder);
    const error = await failure(openArchive(archive, options));
    assert.equal(error.code, "ERR_ARCHIVE", error.message);
    assert.match(error.message, message);
    assert.ok(error.message.startsWith(archive), error.message);
    this.assertNothingLeft();
    assert.deepEqual(listTree(this.folder), around);
  }
}

/** What a promise is rejected with; anything but an error of ours fails. */
export async function failure(promise: Promise<unknown>): Promise<ShardspeedError> {
  const error = await promise.then(
    () => assert.fail("expected a rejection"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ShardspeedError, error instanceof Error ? error.stack : String(error));
  return error;
}

/** The names of all files and folders in a folder, with "/" after those of folders. */
export function listTree(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true }) as string[];
  return names.map((name) => (lstatSync(path.join(folder, name)).isDirectory() ? `${name}/` : name)).sort();
}

/** The contents of all files in a folder. */
export function readTree(folder: string): Record<string, string> {
  const files = listTree(folder).filter((name) => !name.endsWith("/"));
  return Object.fromEntries(files.map((name) => [name, readFileSync(path.join(folder, name), "latin1")]));
}

export type TarHeaders = Partial<tar.Headers> & { name: string };

/** A gzipped tar archive of these entries. */
export async function tarGz(
  entries: readonly (readonly [TarHeaders | string, (string | Uint8Array)?])[],
): Promise<Buffer> {
  const pack = tar.pack();
  for (const [header, data] of entries) {
    const headers = typeof header === "string" ? { name: header } : header;
    pack.entry({ mtime: new Date(0), ...headers }, Buffer.from(data ?? ""));
  }
  pack.finalize();
  const parts: Buffer[] = [];
  for await (const part of pack) parts.push(part);
  return gzipSync(Buffer.concat(parts));
}

/** Packs with what most tests do not care for. */
export function pack(exportPath: string, options: Partial<Parameters<typeof packArchive>[0]> = {}) {
  return packArchive({ modelName: "m", version: "1.0", handler: echoHandler, exportPath, ...options });
}
