import assert from "node:assert/strict";
import path from "node:path";
import { describe, it } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { checkpointFailure, openHandles, type Scratch } from "./support.js";

/** A checkpoint that must be refused. */
export interface BadCase {
  what: string;
  /** Content of a single weights file... */
  file?: Uint8Array | string;
  /** ...under this name, model.bin unless told. */
  name?: string;
  /** Or the files of a folder. */
  folder?: Record<string, Uint8Array | string>;
  /** Or anything else: returns what is to be opened. */
  make?: () => string | Promise<string>;
  /** What the message must say: reason, and tensor where there is one. */
  says: RegExp;
  /** File or folder that the message must name; the one that is opened unless told. */
  names?: string;
  /** Why this case cannot be built here. */
  skip?: string | false;
}

/** One test a case: the right error, that names the file, gives no more than a screen of text and leaves no file open. */
export function refuses(title: string, scratch: Scratch, cases: readonly BadCase[]): void {
  describe(title, () => {
    for (const bad of cases) {
      it(bad.what, { skip: bad.skip ?? false }, async () => {
        const location = await build(bad, scratch);
        const before = openHandles();
        const { message } = await checkpointFailure(openCheckpoint(location));
        assert.match(message, bad.says);
        const named = bad.names ?? path.basename(location);
        assert.ok(message.includes(named), `does not name ${named}: ${message}`);
        assert.ok(message.length < 3000, `has ${message.length} characters`);
        assert.doesNotMatch(message, /\p{Cc}/u, "has control characters");
        assert.equal(openHandles(), before, "left a file open");
      });
    }
  });
}

function build(bad: BadCase, scratch: Scratch): string | Promise<string> {
  if (bad.make !== undefined) return bad.make();
  if (bad.folder !== undefined) return scratch.folder(bad.folder);
  assert.ok(bad.file !== undefined);
  return scratch.file(bad.name ?? "model.bin", bad.file);
}
