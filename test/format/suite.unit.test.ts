import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Grammar } from "../../dist/format/nodes.js";
import { compileSchema } from "../../dist/format/schema.js";
import { findHeights, isText, randomText } from "./grammar_texts.js";
import { ajv } from "./schema_check.js";

// How much of the official JSON-Schema-Test-Suite is supported. It is not in the repository.

const folder = process.env.SHARDSPEED_JSON_SCHEMA_SUITE;
const skip = folder === undefined && "SHARDSPEED_JSON_SCHEMA_SUITE names no folder such as tests/draft2020-12 of it";

interface Group {
  schema: unknown;
  tests: { data: unknown; valid: boolean; description: string }[];
}

test("grammars of the official suite have no text that its schemas forbid", { skip }, (t) => {
  const counts = { schemas: 0, supported: 0, values: 0, written: 0 };
  for (const file of readdirSync(folder as string).filter((name) => name.endsWith(".json"))) {
    for (const { schema, tests } of JSON.parse(readFileSync(path.join(folder as string, file), "utf8")) as Group[]) {
      counts.schemas++;
      let grammar: Grammar;
      try {
        grammar = compileSchema(schema);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "ERR_INVALID_ARGUMENT", String(error));
        continue;
      }
      counts.supported++;
      for (const { data, valid, description } of tests) {
        const isOne = isText(grammar, JSON.stringify(data));
        assert.ok(valid || !isOne, `${file}: ${description}: ${JSON.stringify(data)} for ${JSON.stringify(schema)}`);
        counts.values += valid ? 1 : 0;
        counts.written += isOne ? 1 : 0;
      }
      if (findHeights(grammar)[0] === Infinity) continue; // No value satisfies it.
      const validate = ajv.compile(
        typeof schema === "boolean" ? schema : { ...(schema as object), $schema: undefined, $id: undefined },
      );
      let seed = 1;
      const choose = (count: number) => {
        seed = (Math.imul(seed, 0x41c64e6d) + 12345) & 0x7fffffff;
        return (seed >> 8) % count;
      };
      for (let i = 0; i < 20; i++) {
        const text = randomText(grammar, choose);
        assert.ok(validate(JSON.parse(text)), `${file}: ${text} for ${JSON.stringify(schema)}`);
      }
    }
  }
  t.diagnostic(`${counts.supported} of ${counts.schemas} schemas are supported`);
  t.diagnostic(`${counts.written} of ${counts.values} values that these allow can be written`);
});
