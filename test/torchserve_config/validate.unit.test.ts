import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as shardspeed from "../../dist/index.js";
import { ranksPerWorker, readModelConfigYaml } from "../../dist/torchserve_config/index.js";
import { parse, problems } from "./support.js";

const example = fileURLToPath(new URL("../../test/fixtures/model_config/opt-30b.yaml", import.meta.url));

test("the OPT-30B example, as it is documented for TorchServe", async () => {
  const { values, raw, warnings, given } = await readModelConfigYaml(example);
  assert.deepEqual(warnings, []);
  assert.equal(values.responseTimeout, 1200);
  assert.equal(values.startupTimeout, 120);
  assert.equal(values.deviceType, "gpu");
  assert.deepEqual(values.deviceIds, [0, 1, 2, 3]);
  assert.equal(values.parallelType, "tp");
  assert.equal(values.parallelLevel, 4);
  assert.equal(ranksPerWorker(values), 4);
  assert.deepEqual(values.deepspeed, { config: "ds-config.json", checkpoint: "checkpoints.json" });
  const handler = {
    model_name: "facebook/opt-30b",
    model_path: "/data/models/opt-30b",
    max_length: 50,
    max_new_tokens: 10,
    manual_seed: 40,
  };
  assert.deepEqual(values.handler, handler);
  assert.deepEqual(raw, {
    minWorkers: 1,
    maxWorkers: 1,
    maxBatchDelay: 100,
    responseTimeout: 1200,
    parallelType: "tp",
    deviceType: "gpu",
    deviceIds: [0, 1, 2, 3],
    torchrun: { "nproc-per-node": 4 },
    deepspeed: { config: "ds-config.json", checkpoint: "checkpoints.json" },
    handler,
  });
  assert.equal(given.get("handler.manual_seed")?.place, `${example}:22:5`);
});

test("all that is wrong is said at once, in the order of the file", () => {
  const text = `maxWorkers: 1
minWorkers: 3
batchSize: two
deviceIds: [0, x]
torchrun: {nnodes: many}
deepspeed: ds-config.json
handler: 7
`;
  assert.deepEqual(problems(text), [
    "model-config.yaml:1:13: maxWorkers: expected at least minWorkers, which is 3, found 1",
    'model-config.yaml:3:12: batchSize: expected an integer of at least 1, found "two"',
    'model-config.yaml:4:16: deviceIds[1]: expected an integer of at least 0, found "x"',
    'model-config.yaml:5:20: torchrun.nnodes: expected an integer of at least 1, found "many"',
    'model-config.yaml:6:12: deepspeed: expected a map, found "ds-config.json"',
    "model-config.yaml:7:10: handler: expected a map or the name of a shipped handler, found 7",
  ]);
});

test("the file is called what the caller calls it", () => {
  assert.throws(() => shardspeed.parseModelConfigYaml("batchSize: x", { path: "dir/my.yaml" }), {
    code: "ERR_CONFIG",
    message: /^dir\/my\.yaml:1:12: batchSize: /,
  });
});

test("no message has control characters of the file", () => {
  const [line] = problems('batchSize: "\\e[31m\\x07red"\n');
  assert.doesNotMatch(line ?? "", /\p{Cc}/u);
  for (const warning of parse('"\\e[2J\\x9b": 1\n').warnings) assert.doesNotMatch(warning, /\p{Cc}/u);
});

describe("unknown keys", () => {
  for (const [text, warning] of [
    ["batchsize: 2", "1:1: unknown key batchsize. Did you mean batchSize?"],
    ["responseTimout: 2", "1:1: unknown key responseTimout. Did you mean responseTimeout?"],
    ["my_own_section: {a: 1}", "1:1: unknown key my_own_section. Only handlers see it"],
    ["deepspeed.config: x", "1:1: unknown key deepspeed.config. Did you mean deepspeed?"],
    ["torchrun: {nproc_per_node: 2}", "1:12: torchrun has an unknown key nproc_per_node. Did you mean nproc-per-node?"],
    ["deepspeed: {chekpoint: a.json}", "1:13: deepspeed has an unknown key chekpoint. Did you mean checkpoint?"],
    ["deepspeed: {zzz: 1}", "1:13: deepspeed has an unknown key zzz. Known are: config, checkpoint"],
    ["pt2: {backend: inductor}", "1:1: pt2: no effect here: nothing is compiled by PyTorch"],
    ["pippy: {chunks: 1}", "1:1: pippy: no effect here: there are no pipelines"],
    ["micro_batching: {micro_batch_size: 1}", "1:1: micro_batching: no effect here: the engine cuts steps itself"],
  ] as const) {
    test(text, () => {
      const { warnings, raw } = parse(text);
      assert.deepEqual(warnings, [`model-config.yaml:${warning}`]);
      assert.equal(Object.keys(raw).length, 1);
    });
  }

  test("the logger hears of them too", () => {
    const heard: string[] = [];
    const logger = { debug() {}, info() {}, warn: (message: string) => void heard.push(message), error() {} };
    const { warnings } = shardspeed.parseModelConfigYaml("batchsize: 2", { logger });
    assert.deepEqual(heard, warnings);
    assert.equal(heard.length, 1);
  });
});

describe("handler", () => {
  test("the name of a shipped one", () => {
    assert.equal(parse("handler: text_generation").values.handler, "text_generation");
  });

  for (const text of ["handler:", "handler: {}", "handler: ~", ""]) {
    test(`${JSON.stringify(text)} has no settings`, () => {
      assert.deepEqual(parse(text).values.handler, {});
    });
  }

  for (const written of ["[a]", "7", "true", '""']) {
    test(`${written} is refused`, () => {
      assert.match(problems(`handler: ${written}`)[0] ?? "", /1:10: handler: expected a map or the name/);
    });
  }
});

describe("keys that have to fit each other", () => {
  const errors: [string, string][] = [
    ["minWorkers: 2\nmaxWorkers: 1", "2:13: maxWorkers: expected at least minWorkers, which is 2, found 1"],
    [
      "parallelType: tp\nparallelLevel: 2\ntorchrun: {nproc-per-node: 4}",
      "2:16: parallelLevel: 2, and torchrun.nproc-per-node, which is the same, is 4: remove one",
    ],
    [
      "parallelType: tp\nparallelLevel: 4\ndeviceIds: [0, 1]",
      "3:12: deviceIds: expected at least 4, one for each rank, found 2",
    ],
    [
      "parallelType: tp\ntorchrun: {nproc-per-node: 2}\nminWorkers: 2\ndeviceIds: [0, 1, 2]",
      "4:12: deviceIds: expected 4, for 2 workers of 2 ranks, found 3",
    ],
    [
      "continuousBatching: false\nasyncCommunication: true",
      "1:21: continuousBatching: false, and asyncCommunication, which is the same, is true: remove one",
    ],
  ];
  for (const [text, line] of errors) {
    test(text.replaceAll("\n", "; "), () => assert.deepEqual(problems(text), [`model-config.yaml:${line}`]));
  }

  const warned: [string, string[]][] = [
    [
      "parallelType: tp",
      [
        "1:15: parallelType: tp without a number of ranks: give parallelLevel or torchrun.nproc-per-node, or the DeepSpeed config decides",
      ],
    ],
    ["parallelLevel: 4", ['1:16: parallelLevel: no effect here: it counts with "parallelType: tp" only']],
    [
      "torchrun: {nproc-per-node: 2}",
      ['1:28: torchrun.nproc-per-node: no effect here: it counts with "parallelType: tp" only'],
    ],
    [
      "parallelType: tp\nparallelLevel: 2\ndeviceIds: [0, 1, 2]",
      ["3:12: deviceIds: 1 of the 3 is not used: a worker takes 2"],
    ],
    ["deviceType: cpu\ndeviceIds: [0]", ["2:12: deviceIds: no effect here: deviceType is cpu"]],
    ["parallelType: tp\nparallelLevel: 2\ntorchrun: {nproc-per-node: 2}\ndeviceIds: [0, 1]", []],
    ["parallelType: tp\ntorchrun: {}", []],
    ["parallelType: tp\nparallelLevel: 4\ntorchrun: {OMP_NUMBER_THREADS: 2}", []],
    ["parallelType: custom\nparallelLevel: 4\ndeviceIds: [0, 1]", []],
    ["maxWorkers: 3", []],
  ];
  for (const [text, lines] of warned) {
    test(text.replaceAll("\n", "; "), () => {
      assert.deepEqual(
        parse(text).warnings,
        lines.map((line) => `model-config.yaml:${line}`),
      );
    });
  }

  test("what one key means for another", () => {
    assert.equal(parse("minWorkers: 3").values.maxWorkers, 3);
    assert.equal(parse("asyncCommunication: true").values.continuousBatching, true);
    assert.equal(parse("parallelType: tp\ntorchrun: {}").values.parallelLevel, 1);
    assert.equal(ranksPerWorker(parse("parallelLevel: 4").values), 0);
    assert.equal(ranksPerWorker(parse("parallelType: tp\nparallelLevel: 4").values), 4);
  });
});

describe("files", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "shardspeed-model-config-"));
  });
  after(() => rm(folder, { recursive: true }));

  async function refused(content: string | Buffer, message: RegExp): Promise<void> {
    const file = path.join(folder, "model-config.yaml");
    await writeFile(file, content);
    await assert.rejects(readModelConfigYaml(file), { name: "ShardspeedError", code: "ERR_CONFIG", message });
  }

  test("none, or a folder", async () => {
    for (const file of [path.join(folder, "none.yaml"), folder, "a\0b"]) {
      await assert.rejects(readModelConfigYaml(file), {
        code: "ERR_CONFIG",
        message:
          /^Cannot read the model config: there is no file \/|: is a folder, expected a regular file$|: the path holds a null character/,
      });
    }
  });

  test("not UTF-8", () => refused(Buffer.from([0x61, 0x3a, 0xff]), /is not UTF-8 text: save it as UTF-8$/));

  test("too large", () => refused("#".repeat(2 ** 20 + 1), /is 1048577 bytes long, expected at most 1048576 bytes$/));

  test("the largest there can be", async () => {
    const file = path.join(folder, "large.yaml");
    await writeFile(file, "#".repeat(2 ** 20));
    assert.deepEqual((await readModelConfigYaml(file)).raw, {});
  });

  test("with a byte-order mark and lines as Windows ends them", async () => {
    const file = path.join(folder, "windows.yaml");
    const text = (await readFile(example, "utf8")).replaceAll("\n", "\r\n");
    await writeFile(file, `\uFEFF${text}`);
    assert.deepEqual((await readModelConfigYaml(file)).raw, (await readModelConfigYaml(example)).raw);
  });
});

test("wrong arguments are ERR_INVALID_ARGUMENT", async () => {
  const wrong: unknown[] = [undefined, null, 7, {}, []];
  for (const value of wrong) {
    assert.throws(() => shardspeed.parseModelConfigYaml(value as string), { code: "ERR_INVALID_ARGUMENT" });
    await assert.rejects(shardspeed.readModelConfigYaml(value as string), { code: "ERR_INVALID_ARGUMENT" });
  }
  for (const options of [null, 7, { loger: console }, { logger: 7 }, { path: 7 }]) {
    assert.throws(() => shardspeed.parseModelConfigYaml("", options as object), { code: "ERR_INVALID_ARGUMENT" });
  }
});
