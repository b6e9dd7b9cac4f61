import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ShardspeedError } from "../../dist/base/errors.js";
import { describeModel } from "../../dist/models/index.js";
import { fixture, readJson } from "../support/fixtures.js";
import { type Config, goldens, readConfig } from "./helpers.js";

// Every field of every golden config.json: used, of no effect in the value that it has, ignorable, or refused. A field that has another
// value must change what is described, or be refused, unless it is known not to matter: none is passed over in silence.

/** Of each model_type, what test/fixtures/models/config_fields.json says of its fields. */
interface Fields {
  used: string[];
  neutral: string[];
  ignored: string[];
}
const expected = readJson<Record<string, Fields>>(fixture("models", "config_fields.json"));

/** Other values than the one that a field has. */
function othersOf(value: unknown): unknown[] {
  if (typeof value === "boolean") return [!value];
  if (typeof value === "number") return [2 * value + 2, Math.max(1, Math.floor(value / 2)), value / 3 + 0.1];
  if (typeof value === "string") return ["relu", "something else"];
  if (Array.isArray(value)) return [[], [...value, ...value], ["something else", ...value].slice(0, value.length || 1)];
  if (value === null) return [1, true, "something else"];
  const entries = Object.entries(value as object);
  const inside = entries.filter(([, part]) => typeof part === "object" && part !== null);
  return [
    { ...value, rope_theta: 3 },
    { something: { else: true } },
    ...inside.map(([name, part]) => ({ ...value, [name]: { ...part, rope_theta: 3 } })),
  ];
}

type Effect = "changes" | "refused" | "none";

function effectOf(config: Config, key: string): Set<Effect> {
  const before = JSON.stringify(describe_(config));
  return new Set(
    othersOf(config[key]).map((value): Effect => {
      try {
        return JSON.stringify(describe_({ ...config, [key]: value })) === before ? "none" : "changes";
      } catch (error) {
        assert.ok(ShardspeedError.isInstance(error) && error.code === "ERR_UNSUPPORTED_MODEL", String(error));
        return "refused";
      }
    }),
  );
}

function describe_(config: Config) {
  const { spec, layout, storedDtype } = describeModel(config);
  return { spec, layout, storedDtype };
}

describe("every field of every golden config.json", () => {
  const byType = new Map<string, string[]>();
  for (const name of goldens) {
    const { model_type: type } = readConfig(fixture("golden", name, "config.json"));
    byType.set(type as string, [...(byType.get(type as string) ?? []), name]);
  }
  test("every model_type is in the table", () =>
    assert.deepEqual(Object.keys(expected).sort(), [...byType.keys()].sort()));

  for (const [type, names] of byType) {
    test(type, () => {
      const found: Record<string, Set<string>> = { used: new Set(), neutral: new Set(), ignored: new Set() };
      for (const name of names) {
        const config = readConfig(fixture("golden", name, "config.json"));
        const { keys } = describeModel(config);
        assert.deepEqual(keys.unknown, [], name);
        const listed = [...keys.used, ...keys.neutral, ...keys.ignored];
        assert.deepEqual(listed.sort(), Object.keys(config).sort(), "each field is in one list");
        for (const list of ["used", "neutral", "ignored"] as const) {
          for (const key of keys[list]) found[list]?.add(key);
        }
        for (const key of keys.ignored) assert.deepEqual([...effectOf(config, key)], ["none"], `${name}: ${key}`);
        for (const key of keys.neutral) assert.ok(effectOf(config, key).has("refused"), `${name}: ${key}`);
      }
      const lists = Object.fromEntries(Object.entries(found).map(([list, keys]) => [list, [...keys].sort()]));
      assert.deepEqual(lists, expected[type]);
    });
  }

  test("a field that is used has an effect in one golden at least, or decides nothing alone", () => {
    // Of no effect by themselves: what they say counts only beside another field.
    const dependent = new Set([
      ...["architectures", "dtype", "model_type", "torch_dtype", "max_window_layers", "no_rope_layer_interval"],
      ...["sliding_window", "use_sliding_window", "attention_chunk_size", "sliding_window_pattern", "attention_types"],
      ...["n_group", "topk_group"],
    ]);
    for (const [type, names] of byType) {
      for (const key of expected[type]?.used ?? []) {
        if (dependent.has(key)) continue;
        const effects = names.flatMap((name) => {
          const config = readConfig(fixture("golden", name, "config.json"));
          return key in config ? [...effectOf(config, key)] : [];
        });
        assert.ok(
          effects.some((effect) => effect !== "none"),
          `${type}: ${key}`,
        );
      }
    }
  });
});
