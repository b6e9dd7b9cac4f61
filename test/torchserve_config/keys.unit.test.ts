import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { modelYamlKeys } from "../../dist/torchserve_config/keys.js";
import { parse, problems } from "./support.js";

interface KeyCase {
  unset: unknown;
  /** As written, and what it is. */
  accepted: [string, unknown][];
  /** As written, what the message says was expected, and found. */
  wrong: [string, string, string][];
  /** As written, and the warning. */
  warned?: [string, string][];
}

function integer(minimum: number, unset: unknown, unit = "", more: Partial<KeyCase> = {}): KeyCase {
  const expected = `an integer of at least ${minimum}${unit}`;
  return {
    unset,
    accepted: [
      ["7", 7],
      ["0x10", 16],
      ["1_000", 1000],
      ["2147483647", 2147483647],
      [`${minimum || "0"}`, minimum],
    ],
    wrong: [
      ["two", expected, '"two"'],
      ['"2"', expected, '"2"'],
      ["2.5", expected, "2.5"],
      ["-1", expected, "-1"],
      ["yes", expected, "yes"],
      ["", expected, "nothing"],
      ["[2]", expected, "a list"],
      ["{x: 2}", expected, "a map"],
      [".inf", expected, ".inf"],
      ["2147483648", `an integer of at most 2147483647${unit}`, "2147483648"],
      ...(minimum > 0 && !more.warned?.some(([written]) => written === "0")
        ? ([["0", expected, "0"]] as [string, string, string][])
        : []),
    ],
    ...more,
  };
}

const milliseconds = " (milliseconds)";
const seconds = " (seconds)";

function zeroIs(value: number): Partial<KeyCase> {
  return { warned: [["0", `0 is taken as ${value}`]] };
}

function flag(more: Partial<KeyCase> = {}): KeyCase {
  return {
    unset: false,
    accepted: [
      ...["true", "True", "yes", "YES", "on", '"on"', "'yes'"].map((word) => [word, true] as [string, unknown]),
      ...["false", "FALSE", "no", "off", '"no"'].map((word) => [word, false] as [string, unknown]),
    ],
    wrong: [
      ["1", "true or false", "1"],
      ["y", "true or false", '"y"'],
      ["", "true or false", "nothing"],
      ["[true]", "true or false", "a list"],
    ],
    ...more,
  };
}

function text(unset: unknown, more: Partial<KeyCase> = {}): KeyCase {
  return {
    unset,
    accepted: [
      ["some/thing.json", "some/thing.json"],
      ['"7"', "7"],
    ],
    wrong: [
      ["7", "text", "7"],
      ['""', "text", '""'],
      ["", "text", "nothing"],
      ["{a: b}", "text", "a map"],
    ],
    ...more,
  };
}

const path = text(undefined, {
  wrong: [
    ["7", "the path of a JSON file", "7"],
    ['""', "the path of a JSON file", '""'],
    ["", "the path of a JSON file", "nothing"],
    ["[a.json]", "the path of a JSON file", "a list"],
  ],
});

const noSequences = "no effect here: requests are not kept together as sequences";
const oneHost = "no effect here: a worker's ranks are on one host, and find each other without a rendezvous";

const cases: Record<string, KeyCase> = {
  minWorkers: integer(1, 1, "", zeroIs(1)),
  maxWorkers: integer(1, 1, "", zeroIs(1)),
  batchSize: integer(1, 1, "", zeroIs(1)),
  maxBatchDelay: integer(0, 100, milliseconds),
  responseTimeout: integer(1, 120, seconds),
  startupTimeout: integer(1, 120, seconds),
  deviceType: {
    unset: "auto",
    accepted: [
      ["cpu", "cpu"],
      ['"gpu"', "gpu"],
      ["GPU", "gpu"],
      ["auto", "auto"],
    ],
    wrong: [
      ["neuron", "auto, cpu or gpu", '"neuron"'],
      ["0", "auto, cpu or gpu", "0"],
      ["", "auto, cpu or gpu", "nothing"],
      ["__proto__", "auto, cpu or gpu", '"__proto__"'],
    ],
  },
  deviceIds: {
    unset: [],
    accepted: [
      ["[0, 1, 2]", [0, 1, 2]],
      ["[3]", [3]],
      ["[]", []],
    ],
    wrong: [
      ["0", "a list of GPU numbers", "0"],
      ["all", "a list of GPU numbers", '"all"'],
      ["{0: 1}", "a list of GPU numbers", "a map"],
      ["", "a list of GPU numbers", "nothing"],
    ],
  },
  parallelType: {
    unset: "none",
    accepted: [
      ["tp", "tp"],
      ['"TP"', "tp"],
      ["Custom", "custom"],
      ['""', "none"],
      ["none", "none"],
    ],
    wrong: [
      ["pp", "tp or custom, which alone are served", '"pp"'],
      ["PPTP", "tp or custom, which alone are served", '"PPTP"'],
      ["ring", "none, tp or custom", '"ring"'],
      ["2", "none, tp or custom", "2"],
    ],
  },
  parallelLevel: integer(0, 0),
  "torchrun.nnodes": integer(1, 1, "", { warned: [["2", oneHost]] }),
  "torchrun.nproc-per-node": integer(1, 1),
  "torchrun.rdzv-backend": text("c10d", { warned: [["etcd", oneHost]] }),
  "torchrun.rdzv-endpoint": text("", { warned: [["host:29400", oneHost]] }),
  "torchrun.rdzv-conf": text("", { warned: [["timeout=3", oneHost]] }),
  "torchrun.monitor-interval": integer(1, 5, seconds),
  "torchrun.node-rank": integer(0, 0, "", { warned: [["1", oneHost]] }),
  "torchrun.OMP_NUMBER_THREADS": integer(0, 0),
  maxRetryTimeoutInSec: integer(0, 300, seconds),
  clientTimeoutInMills: integer(0, 0, milliseconds),
  jobQueueSize: integer(1, 100, "", zeroIs(100)),
  useJobTicket: flag(),
  continuousBatching: flag(),
  asyncCommunication: flag(),
  sequenceBatching: flag({ warned: [["true", noSequences]] }),
  sequenceMaxIdleMSec: integer(0, 0, milliseconds, { warned: [["9", noSequences]] }),
  sequenceTimeoutMSec: integer(0, 0, milliseconds, { warned: [["9", noSequences]] }),
  maxNumSequence: integer(1, 1, "", {
    warned: [
      ["0", "0 is taken as 1"],
      ["2", noSequences],
    ],
  }),
  maxSequenceJobQueueSize: integer(1, 1, "", {
    warned: [
      ["0", "0 is taken as 1"],
      ["2", noSequences],
    ],
  }),
  useVenv: flag({ warned: [["true", "no effect here: there is no Python environment"]] }),
  "deepspeed.config": path,
  "deepspeed.checkpoint": path,
};

test("there are cases for every key", () => {
  assert.deepEqual(Object.keys(cases).sort(), Object.keys(modelYamlKeys).sort());
});

/** A file with one key, behind a comment and a key that is fine, and where its value stands. */
function file(key: string, written: string): { text: string; place: string } {
  const [first, second] = key.split(".") as [string, string?];
  const head = "# a comment\nfine: 1\n";
  if (second === undefined) return { text: `${head}${first}: ${written}\n`, place: `3:${first.length + 3}` };
  return { text: `${head}${first}:\n  ${second}: ${written}\n`, place: `4:${second.length + 5}` };
}

function valueAt(values: object, key: string): unknown {
  return key.split(".").reduce<unknown>((value, step) => (value as Record<string, unknown>)[step], values);
}

for (const [key, { unset, accepted, wrong, warned }] of Object.entries(cases)) {
  describe(key, () => {
    test("its default", () => {
      assert.deepEqual(valueAt(parse("").values, key), unset);
    });

    for (const [written, value] of accepted) {
      test(`takes ${written}`, () => {
        const { values, raw, given } = parse(file(key, written).text);
        assert.deepEqual(valueAt(values, key), value);
        assert.notEqual(valueAt(raw, key), undefined);
        assert.deepEqual(given.get(key)?.value, value);
      });
    }

    for (const [written, expected, found] of wrong) {
      test(`refuses ${written || "nothing"}`, () => {
        const { text, place } = file(key, written);
        const line = `model-config.yaml:${place}: ${key}: expected ${expected}, found ${found}`;
        // What is not there stands where the key ends, or where a value could.
        if (written === "") assert.match(problems(text)[0] ?? "", new RegExp(`: ${key}: expected .*, found nothing$`));
        else assert.deepEqual(problems(text), [line]);
      });
    }

    for (const [written, warning] of warned ?? []) {
      test(`warns of ${written}`, () => {
        const { text, place } = file(key, written);
        assert.ok(parse(text).warnings.includes(`model-config.yaml:${place}: ${key}: ${warning}`));
      });
    }

    test("says nothing of its default", () => {
      if (unset === undefined || unset === "") return;
      const { text } = file(key, JSON.stringify(unset));
      assert.deepEqual(parse(text.replace("fine: 1\n", "")).warnings, []);
    });
  });
}

test("elements of deviceIds are named with their own place", () => {
  assert.deepEqual(problems("deviceIds:\n  - 0\n  - one\n"), [
    'model-config.yaml:3:5: deviceIds[1]: expected an integer of at least 0, found "one"',
  ]);
  assert.deepEqual(problems("deviceIds: [0, -1]\n"), [
    "model-config.yaml:1:16: deviceIds[1]: expected an integer of at least 0, found -1",
  ]);
  assert.deepEqual(problems("deviceIds: [0, 1, 0]\n"), [
    "model-config.yaml:1:19: deviceIds[2]: expected every GPU number once, found 0",
  ]);
});
