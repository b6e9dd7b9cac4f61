import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, test } from "node:test";
import { chooseDevice, chooseDtype, cpuDevice, type Device, toPlanDevice } from "../../dist/loading/device.js";
import { memoryBudget } from "../../dist/loading/memory_plan.js";
import { resolveInitOptions } from "../../dist/loading/options.js";
import type { CudaReport } from "../../dist/native/binding.js";
import { mostLogprobs, pageTokens } from "../../dist/native/limits.js";
import { root } from "../package/programs.js";
import { cpuBuild, cudaDevice, cudaReport, recordingLogger } from "../support/fake_binding.js";
import { hasCode } from "../support/fixtures.js";

const tesla = { name: "Tesla T4", computeCapability: "7.5", usable: false };
const old = { ...tesla, problem: "It has compute capability 7.5, and 8.0 or higher is needed." };
const noDriver = cudaReport([], {
  driverVersion: undefined,
  problem: "There is no NVIDIA driver: libcuda.so.1 cannot be loaded.",
} as object);
const oldDriver = cudaReport([], {
  driverVersion: "12.4",
  problem: "The driver is for CUDA 12.4, and 13.0 is needed.",
});
const emulated = cudaReport([cudaDevice(0, { name: "emulator" })], { emulated: true });

/** The device, and what was logged; a report that may not be asked is undefined. */
function choose(value: unknown, report?: CudaReport): { device: Device; lines: string[] } {
  const logger = recordingLogger();
  const device = chooseDevice(value, () => report ?? assert.fail("CUDA was asked"), logger);
  return { device, lines: logger.lines };
}

/** What the variable of the machine that runs this may say is none of these tests' business. */
const { CUDA_VISIBLE_DEVICES: visibleBefore } = process.env;
beforeEach(() => {
  delete process.env.CUDA_VISIBLE_DEVICES;
});
afterEach(() => {
  if (visibleBefore !== undefined) process.env.CUDA_VISIBLE_DEVICES = visibleBefore;
  else delete process.env.CUDA_VISIBLE_DEVICES;
});

describe("device cpu", () => {
  test("asks CUDA nothing and says nothing", () => {
    assert.deepEqual(choose("cpu"), { device: cpuDevice, lines: [] });
    assert.equal(toPlanDevice(cpuDevice), "cpu");
  });
});

describe("device auto", () => {
  const cases: [string, CudaReport, string, RegExp[]][] = [
    [
      "a CPU-only build",
      cpuBuild,
      "cpu",
      [
        /^info: Device auto: the CPU is used\. This build has no CUDA backend; docs\/cuda\.md says how to make one that has\.$/,
      ],
    ],
    [
      "no driver",
      noDriver,
      "cpu",
      [/^info: Device auto: the CPU is used\. There is no NVIDIA driver: libcuda\.so\.1 cannot be loaded\.$/],
    ],
    [
      "a driver that is too old",
      oldDriver,
      "cpu",
      [/^warn: Device auto: the CPU is used\. .*12\.4, and 13\.0 is needed\.$/],
    ],
    [
      "devices of which none is usable",
      cudaReport([cudaDevice(0, old), cudaDevice(1, old)]),
      "cpu",
      [
        /^warn: Device auto: the CPU is used\. cuda:0 \(Tesla T4\): It has compute capability 7\.5, .*; cuda:1 \(Tesla T4\): /,
      ],
    ],
    ["a usable device", cudaReport([cudaDevice(0)]), "cuda:0", []],
    ["a usable device behind another", cudaReport([cudaDevice(0, old), cudaDevice(1)]), "cuda:1", []],
    [
      "an emulated build",
      emulated,
      "cpu",
      [/^info: Device auto: the CPU is used\. This build's CUDA backend is an emulator/],
    ],
  ];
  for (const [name, report, expected, expectedLines] of cases) {
    test(name, () => {
      for (const value of ["auto", undefined]) {
        const { device, lines } = choose(value, report);
        assert.equal(device.name, expected);
        assert.equal(lines.length, expectedLines.length, lines.join("\n"));
        for (const [i, line] of expectedLines.entries()) assert.match(lines[i] as string, line);
      }
    });
  }
});

describe("device cuda", () => {
  test("is the first that is usable, or the one that is named", () => {
    const report = cudaReport([cudaDevice(0, old), cudaDevice(1), cudaDevice(2)]);
    for (const [value, index] of [
      ["cuda", 1],
      ["cuda:1", 1],
      ["cuda:2", 2],
      ["cuda:02", 2],
    ] as const) {
      const { device, lines } = choose(value, report);
      assert.deepEqual(device, { name: `cuda:${index}`, cudaIndex: index });
      assert.equal(toPlanDevice(device), `cuda:${index}`);
      assert.deepEqual(lines, []);
    }
  });

  const two = cudaReport([cudaDevice(0), cudaDevice(1, old)]);
  const missing: [string, string, CudaReport, RegExp][] = [
    [
      "a CPU-only build",
      "cuda",
      cpuBuild,
      /^Found device "cuda", which cannot be used: This build has no CUDA backend; docs\/cuda\.md says how to make one that has\. /,
    ],
    [
      "a CPU-only build",
      "cuda:3",
      cpuBuild,
      /^Found device "cuda:3".* This build has no CUDA backend; docs\/cuda\.md says how to make one that has\. Use "cpu" or "auto"\.$/,
    ],
    ["no driver", "cuda", noDriver, /no NVIDIA driver: libcuda\.so\.1 cannot be loaded\. Use "cpu" or "auto"\.$/],
    ["no driver", "cuda:0", noDriver, /no NVIDIA driver: libcuda\.so\.1 cannot be loaded\./],
    ["a driver that is too old", "cuda", oldDriver, /The driver is for CUDA 12\.4, and 13\.0 is needed\./],
    ["no device", "cuda", cudaReport([]), /which cannot be used: No CUDA device was found\./],
    ["no device", "cuda:1", cudaReport([]), /which cannot be used: No CUDA device was found\./],
    [
      "an old device",
      "cuda:1",
      two,
      /cuda:1 \(Tesla T4\): It has compute capability 7\.5, and 8\.0 .* is needed\. Use another device, "cpu"/,
    ],
    [
      "old devices only",
      "cuda",
      cudaReport([cudaDevice(0, old)]),
      /cuda:0 \(Tesla T4\): It has .*needed\. Use "cpu" or "auto"\.$/,
    ],
    [
      "a device without words",
      "cuda",
      cudaReport([cudaDevice(0, tesla)]),
      /cuda:0 \(Tesla T4\): CUDA does not say why\./,
    ],
    [
      "a number too high",
      "cuda:2",
      two,
      /2 CUDA devices are there: cuda:0 \(NVIDIA H100 80GB HBM3\), cuda:1 \(Tesla T4\)\. Use another/,
    ],
    ["a number too high", "cuda:1", cudaReport([cudaDevice(0)]), /One CUDA device is there: cuda:0 \(/],
    ["no number at all", "cuda:99999999999999999999", two, /2 CUDA devices are there/],
    ["an emulated build", "cuda", emulated, /This build's CUDA backend is an emulator/],
    ["an emulated build", "cuda:0", emulated, /This build's CUDA backend is an emulator.* Use "cpu" or "auto"\.$/],
  ];
  for (const [name, value, report, message] of missing) {
    test(`${name}: ${value} is ERR_CUDA, which says so`, () => {
      assert.throws(() => choose(value, report), hasCode("ERR_CUDA", message));
    });
  }

  test("where CUDA shows too few devices, the variable that hides them is named", () => {
    process.env.CUDA_VISIBLE_DEVICES = "";
    assert.throws(
      () => choose("cuda", cudaReport([])),
      hasCode("ERR_CUDA", /found\. The .*CUDA_VISIBLE_DEVICES is ""\. Use/),
    );
    process.env.CUDA_VISIBLE_DEVICES = "5";
    assert.throws(() => choose("cuda:5", cudaReport([cudaDevice(0)])), hasCode("ERR_CUDA", /VISIBLE_DEVICES is "5"\./));
  });
});

describe("what is no device", () => {
  for (const report of [cpuBuild, cudaReport([cudaDevice(0)]), emulated]) {
    const build = report.emulated ? "an emulated" : report.built ? "a CUDA" : "a CPU-only";
    test(`is an invalid argument in ${build} build`, () => {
      for (const value of [
        "gpu",
        "cuda:",
        "cuda:-1",
        "cuda:1.5",
        "cuda:x",
        "cuda-emulator:0",
        "CPU",
        " cpu",
        0,
        null,
        {},
      ])
        assert.throws(() => choose(value, report), hasCode("ERR_INVALID_ARGUMENT", /device/));
    });
  }

  test("the emulator's name is one in no build but its own, and no message gives it away", () => {
    for (const report of [cpuBuild, cudaReport([cudaDevice(0)])]) {
      const expected =
        /^Expected device to be "auto", "cpu", "cuda" or "cuda:" and a number, found "cuda-emulator" \(string\)$/;
      assert.throws(() => choose("cuda-emulator", report), hasCode("ERR_INVALID_ARGUMENT", expected));
    }
    const { device } = choose("cuda-emulator", emulated);
    assert.deepEqual(device, { name: "cuda-emulator", cudaIndex: 0 });
    assert.equal(toPlanDevice(device), "cuda:0");
  });

  test("is said with the options, before CUDA is asked", () => {
    assert.throws(() => resolveInitOptions({ device: "gpu" }), hasCode("ERR_INVALID_ARGUMENT", /device/));
    assert.equal(resolveInitOptions({ device: "cuda:7" }).device, "cuda:7");
  });
});

describe("dtype", () => {
  const cuda: Device = { name: "cuda:1", cudaIndex: 1 };
  const pick = (
    configured: "float32" | "float16" | "bfloat16" | undefined,
    stored: typeof configured,
    device: Device,
  ) => {
    const logger = recordingLogger();
    return { dtype: chooseDtype(configured, stored ?? "float32", device, logger), lines: logger.lines };
  };

  test("on the CPU is the config's, else the checkpoint's", () => {
    for (const dtype of ["float32", "float16", "bfloat16"] as const) {
      assert.deepEqual(pick(dtype, "float16", cpuDevice), { dtype, lines: [] });
      assert.deepEqual(pick(undefined, dtype, cpuDevice), { dtype, lines: [] });
    }
  });

  test("on CUDA likewise, in 16 bits", () => {
    for (const dtype of ["float16", "bfloat16"] as const) {
      assert.deepEqual(pick(dtype, "float32", cuda), { dtype, lines: [] });
      assert.deepEqual(pick(undefined, dtype, cuda), { dtype, lines: [] });
    }
  });

  test("on CUDA, float32 in the config is ERR_CONFIG", () => {
    const expected =
      /Found dtype float32 .*device cuda:1.*float16 or bfloat16 only\. Set dtype to "fp16" or "bf16", or use device "cpu"/;
    for (const stored of ["float32", "float16"] as const)
      assert.throws(() => pick("float32", stored, cuda), hasCode("ERR_CONFIG", expected));
  });

  test("on CUDA, a float32 checkpoint is computed in float16, with one line", () => {
    const { dtype, lines } = pick(undefined, "float32", cuda);
    assert.equal(dtype, "float16");
    assert.equal(lines.length, 1);
    assert.match(lines[0] as string, /^warn: .*stored as float32.*cuda:1.*float16 is used/);
  });
});

describe("memory that may be planned with", () => {
  test("on CUDA is what is free now on this device, less a reserve", () => {
    let report = cudaReport([cudaDevice(0, { freeBytes: 1e9 }), cudaDevice(1, { freeBytes: 10e9 })]);
    const device: Device = { name: "cuda:1", cudaIndex: 1 };
    const budget = () => memoryBudget(device, () => report);
    assert.equal(budget().availableBytes, 10e9 - 256 * 2 ** 20 - 2e8);
    assert.equal(budget().place, " on cuda:1 (10.0 GB free, less 468 MB for CUDA itself)");
    report = cudaReport([cudaDevice(1, { freeBytes: 100e6 })]);
    assert.equal(budget().availableBytes, 0);
    report = oldDriver;
    assert.throws(budget, hasCode("ERR_CUDA", /Device cuda:1 cannot be used any more: The driver is for CUDA 12\.4/));
    report = cudaReport([cudaDevice(1, { usable: false, freeBytes: 0, problem: "it cannot be opened: no reason" })]);
    assert.throws(budget, hasCode("ERR_CUDA", /any more: cuda:1 \(NVIDIA .*\): it cannot be opened: no reason\.$/));
  });

  test("on the CPU is the machine's", () => {
    const { availableBytes, place } = memoryBudget(cpuDevice, () => assert.fail("CUDA was asked"));
    assert.ok(availableBytes > 0);
    assert.equal(place, "");
  });
});

test("the device can give as many log-probabilities as may be asked for", () => {
  const header = readFileSync(`${root}/cuda/sample.h`, "utf8");
  const most = Number(/kMostLogprobs = (\d+);/.exec(header)?.[1]);
  assert.ok(mostLogprobs <= most, `${mostLogprobs} asked for, ${most} possible`);
});

test("a page of the KV cache has as many tokens as on the native side", () => {
  const header = readFileSync(`${root}/src/backend.h`, "utf8");
  assert.equal(Number(/kPageTokens = (\d+);/.exec(header)?.[1]), pageTokens);
});
