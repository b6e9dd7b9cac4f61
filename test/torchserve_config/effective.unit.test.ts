import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ConfigSources, effectiveConfig, effectiveSettings } from "../../dist/torchserve_config/index.js";
import { modelYamlKeys } from "../../dist/torchserve_config/keys.js";
import { parse } from "./support.js";

/** Three values for a key, none the default; lists of words where there are no three. */
function three(key: string): [unknown, unknown, unknown] {
  const { type } = modelYamlKeys[key] ?? assert.fail(key);
  if (type.kind === "integer") return [11, 12, 13];
  if (type.kind === "boolean") return [true, false, true];
  if (type.kind === "integers") return [[1], [2], [3]];
  if (type.kind === "text") return ["a", "b", "c"];
  return key === "deviceType" ? ["cpu", "gpu", "auto"] : ["tp", "custom", "none"];
}

function yamlWith(key: string, value: unknown) {
  const [first, second] = key.split(".");
  return parse(
    second === undefined ? `${first}: ${JSON.stringify(value)}` : `${first}: {${second}: ${JSON.stringify(value)}}`,
  );
}

function row(key: string, sources: ConfigSources) {
  return effectiveConfig(sources).find((candidate) => candidate.key === key);
}

describe("one rule for every key: option, model-config.yaml, server, default", () => {
  for (const [key, { default: unset }] of Object.entries(modelYamlKeys)) {
    test(key, () => {
      // The fewest workers are then what the most are at least.
      const [option, written, served] = three(key);
      const extra = key === "minWorkers" ? { maxWorkers: 99 } : {};
      const options = { [key]: option, ...extra };
      const server = { [key]: served, ...extra };
      const yaml = yamlWith(key, written);
      const place = `model-config.yaml:1:${key.includes(".") ? key.indexOf(".") + 4 : 1}`;
      assert.deepEqual(row(key, { options, yaml, server }), { key, value: option, source: "option" });
      assert.deepEqual(row(key, { options: extra, yaml, server }), {
        key,
        value: written,
        source: "model-config.yaml",
        place,
      });
      assert.deepEqual(row(key, { options: { [key]: undefined }, server }), { key, value: served, source: "server" });
      assert.deepEqual(row(key, { yaml: parse("") }), {
        key,
        value: key === "maxWorkers" ? 1 : unset,
        source: "default",
      });
    });
  }
});

test("every key has a row, the handler's own among them", () => {
  const yaml = parse("handler: {max_length: 50, path: x}");
  const rows = effectiveConfig({ yaml, options: { "handler.path": "y" } });
  assert.deepEqual(
    rows.map(({ key }) => key),
    [...Object.keys(modelYamlKeys), "handler.max_length", "handler.path"],
  );
  assert.deepEqual(rows.slice(-2), [
    { key: "handler.max_length", value: 50, source: "model-config.yaml", place: "model-config.yaml:1:11" },
    { key: "handler.path", value: "y", source: "option" },
  ]);
  assert.deepEqual(effectiveSettings({ yaml, options: { "handler.path": "y" } }).handler, {
    max_length: 50,
    path: "y",
  });
});

test("a timeout that the file does not name is the server's", () => {
  const yaml = parse("batchSize: 2");
  assert.equal(effectiveSettings({ yaml, server: { responseTimeout: 600 } }).responseTimeout, 600);
});

test("two names of one thing go by the source too", () => {
  const yaml = parse("parallelType: tp\ntorchrun: {nproc-per-node: 4}\nasyncCommunication: true");
  assert.equal(effectiveSettings({ yaml, options: { parallelLevel: 2 } }).parallelLevel, 2);
  assert.equal(effectiveSettings({ yaml, server: { parallelLevel: 2 } }).parallelLevel, 4);
  assert.equal(effectiveSettings({ yaml, options: { continuousBatching: false } }).continuousBatching, false);
  assert.deepEqual(row("parallelLevel", { yaml }), {
    key: "parallelLevel",
    value: 4,
    source: "model-config.yaml",
    place: "model-config.yaml:2:12",
  });
  const named = parse("handler: embedding");
  assert.equal(effectiveSettings({ yaml: named, server: { "handler.a": 1 } }).handler, "embedding");
  assert.deepEqual(effectiveSettings({ yaml: named, options: { "handler.a": 1 } }).handler, { a: 1 });
});

test("workers from two sources that contradict each other", () => {
  assert.throws(() => effectiveConfig({ options: { minWorkers: 4 }, yaml: parse("maxWorkers: 2") }), {
    code: "ERR_CONFIG",
    message: "maxWorkers: expected at least minWorkers, which is 4 (option), found 2 (model-config.yaml:1:1)",
  });
});

describe("wrong settings", () => {
  const wrong: [object, RegExp][] = [
    [{ batchSize: "two" }, /^Expected batchSize to be an integer of at least 1, found "two" \(string\)$/],
    [{ batchsize: 2 }, /: unknown key batchsize\. Did you mean batchSize\?$/],
    [{ "torchrun.nproc": 2 }, /: unknown key torchrun\.nproc\. Did you mean torchrun\.nproc-per-node\?$/],
    [{ qqqqqqqqqq: 2 }, /: unknown key qqqqqqqqqq\. docs\/model-config\.md lists all\.$/],
    [{ handler: 7 }, /^Expected handler to be the name of a shipped handler, found 7 \(number\)$/],
    [JSON.parse('{"__proto__": 1}'), /: unknown key __proto__\. /],
    [[], /an object of settings by dotted name/],
  ];
  for (const [settings, message] of wrong) {
    test(JSON.stringify(settings), () => {
      const values = settings as Record<string, unknown>;
      assert.throws(() => effectiveConfig({ options: values }), { code: "ERR_INVALID_ARGUMENT", message });
      if (!Array.isArray(settings)) {
        assert.throws(() => effectiveConfig({ server: values }), { code: "ERR_CONFIG", message });
      }
    });
  }
});

test("what goes in is left as it is", () => {
  const options = Object.freeze({ deviceIds: Object.freeze([1, 2]) });
  const yaml = parse("deviceIds: [3]\nhandler: {a: [1]}");
  const before = structuredClone(yaml.raw);
  effectiveSettings({ options, yaml }).deviceIds.push(7);
  assert.deepEqual(yaml.raw, before);
  assert.deepEqual(options.deviceIds, [1, 2]);
  assert.deepEqual(effectiveSettings({}).deviceIds, []);
});
