import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { AutoTokenizer } from "../../dist/index.js";
import { readJson } from "../support/fixtures.js";
import { tokenizersFolder } from "./fixtures.js";

/** Made by test/fixtures/tokenizers/make_forms.py and make_families.py with transformers. */
interface Fixture {
  shared: Record<string, unknown>;
  texts: string[];
  /** Two texts that are read together. */
  pair?: [string, string];
  cases: {
    name: string;
    files: Record<string, unknown>;
    size: number;
    ids: number[][];
    /** How many ids of each text are special ones that are added; null: none. */
    added: number[] | null;
    decoded: string[] | null;
    named: Record<string, [string, number]>;
    side: string;
    /** What the pair comes to, cut at this side to maxLength. */
    pairs?: { side: "left" | "right"; maxLength?: number; ids: number[]; types: number[] }[];
  }[];
}

const fixtures = ["forms", "families"].map((name) => readJson<Fixture>(`${tokenizersFolder}${name}.json`));

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "shardspeed-forms-"));
});
after(() => rm(folder, { recursive: true }));

async function write({ shared }: Fixture, name: string, files: Record<string, unknown>): Promise<string> {
  const target = path.join(folder, name.replace(/\W+/g, "_"));
  await mkdir(target, { recursive: true });
  for (const [file, given] of Object.entries(files)) {
    const value = typeof given === "string" && given.startsWith("@") ? shared[given.slice(1)] : given;
    const encoded = (value as { gzip?: unknown } | null)?.gzip;
    const content =
      typeof encoded === "string"
        ? gunzipSync(Buffer.from(encoded, "base64"))
        : typeof value === "string"
          ? value
          : JSON.stringify(value);
    await writeFile(path.join(target, file), content);
  }
  return target;
}

describe("settings and forms against transformers", () => {
  const cases = fixtures.flatMap((fixture) => fixture.cases.map((one) => ({ fixture, ...one })));
  for (const { fixture, name, files, size, ids, added, decoded, named, side, pairs = [] } of cases) {
    test(name, async () => {
      const tokenizer = await AutoTokenizer.fromPretrained(await write(fixture, name, files));
      for (const [i, text] of fixture.texts.entries()) {
        const expected = ids[i] as number[];
        assert.deepEqual(tokenizer.encode(text), expected, `${JSON.stringify(text)}`);
        const plain = tokenizer.encode(text, { addSpecialTokens: false });
        assert.equal(plain.length, expected.length - (added?.[i] ?? 0), JSON.stringify(text));
        if (decoded !== null) {
          assert.equal(tokenizer.decode(plain, { skipSpecialTokens: true }), decoded[i], JSON.stringify(text));
        }
      }
      const found = {
        bos_token: [tokenizer.bosToken, tokenizer.bosTokenId],
        eos_token: [tokenizer.eosToken, tokenizer.eosTokenId],
        unk_token: [tokenizer.unkToken, tokenizer.unkTokenId],
        pad_token: [tokenizer.padToken, tokenizer.padTokenId],
      };
      for (const [role, token] of Object.entries(found)) {
        if (token[0] !== undefined || role in named) assert.deepEqual(token, named[role], role);
      }
      assert.equal(tokenizer.vocabSize, size);
      assert.equal(tokenizer.paddingSide, side);
      for (const { side, maxLength, ids, types } of pairs) {
        tokenizer.truncationSide = side;
        const options = maxLength === undefined ? {} : { maxLength };
        const found = tokenizer.encodePair(...(fixture.pair as [string, string]), options);
        assert.deepEqual(found, { inputIds: ids, tokenTypeIds: types }, `a pair, cut ${side} to ${maxLength}`);
      }
    });
  }
});
