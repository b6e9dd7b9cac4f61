import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { cudaRows, toCudaSection } from "../../dist/cli/doctor.js";
import type { CudaReport } from "../../dist/native/binding.js";
import { emulatorAddon, useEmulator } from "../support/emulator.js";
import { cpuBuild, cudaDevice, cudaReport } from "../support/fake_binding.js";
import { root, run } from "./command.js";

test("doctor reports this machine", async () => {
  const { status, stdout, stderr } = await run(["doctor", "--json"]);
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(stderr, "");
  const report = JSON.parse(stdout);
  const { version } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  assert.equal(report.shardspeed, version);
  assert.equal(report.node.version, process.versions.node);
  assert.equal(report.system.platform, process.platform);
  assert.equal(report.memory.totalBytes, totalmem());
  assert.ok(report.processor.available.includes(report.processor.kernels));
  assert.match(report.addon.path, /\.node$/);
  assert.ok(["local build", "prebuild", "named by SHARDSPEED_BINDING"].includes(report.addon.kind));
  assert.equal(report.addon.error, null);
  const { cuda } = report;
  assert.equal(cuda.usable, cuda.reason === null);
  if (!cuda.usable) assert.match(cuda.reason, /CUDA|NVIDIA|driver/);
  if (!cuda.built) assert.deepEqual([cuda.usable, cuda.emulated, cuda.devices], [false, false, []]);

  const text = (await run(["doctor"])).stdout;
  for (const name of ["shardspeed", "Node", "System", "Processor", "Kernels", "Memory", "Addon", "CUDA"]) {
    assert.match(text, new RegExp(`^${name} +\\S`, "m"));
  }
});

test("doctor names the libraries for GPUs, from where the dynamic loader has them", async () => {
  const binding = process.env.SHARDSPEED_BINDING;
  useEmulator();
  if (binding === undefined) delete process.env.SHARDSPEED_BINDING;
  else process.env.SHARDSPEED_BINDING = binding;
  const folder = await mkdtemp(path.join(tmpdir(), "libraries-"));
  const source = path.join(folder, "nccl.c");
  await writeFile(source, "int ncclGetVersion(int *version) { *version = 22809; return 0; }\n");
  const library = path.join(folder, "libnccl.so.2");
  const compiled = spawnSync(process.env.CC ?? "cc", ["-shared", "-fPIC", "-o", library, source], { encoding: "utf8" });
  assert.equal(compiled.status, 0, compiled.stderr);
  const environment = { SHARDSPEED_BINDING: emulatorAddon, LD_LIBRARY_PATH: folder };
  const { status, stdout, stderr } = await run(["doctor", "--json"], "", environment);
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [cublasLt, nccl] = JSON.parse(stdout).cuda.libraries;
  assert.deepEqual(nccl, { name: "NCCL", path: library, version: "2.28.9", problem: null });
  assert.equal(cublasLt.name, "cuBLASLt");
  // Not installed where these tests run; where it is, its file is named.
  if (cublasLt.path === null) assert.match(cublasLt.problem, /libcublasLt\.so\.13: .*; libcublasLt\.so\.12: /);
  assert.match((await run(["doctor"], "", environment)).stdout, /NCCL {2}2\.28\.9, \/\S+libnccl\.so\.2$/m);
});

test("doctor without an addon: exit code 1, and what was tried", async () => {
  const environment = { SHARDSPEED_BINDING: "/nowhere/shardspeed.node" };
  const json = await run(["doctor", "--json"], "", environment);
  assert.equal(json.status, 1);
  const { addon, processor, cuda } = JSON.parse(json.stdout);
  assert.equal(cuda.reason, "The addon cannot be loaded.");
  assert.match(addon.error, /\/nowhere\/shardspeed\.node/);
  assert.equal(processor.kernels, null);
  const text = await run(["doctor"], "", environment);
  assert.equal(text.status, 1);
  assert.match(text.stdout, /could not be loaded.*\/nowhere\/shardspeed\.node/s);
});

describe("what doctor says of CUDA", () => {
  const old = { name: "Tesla T4", computeCapability: "7.5", usable: false };
  const problem = "Compute capability 7.5 is below 8.0.";
  const cases: [string, CudaReport | undefined, string | null, string[]][] = [
    ["no addon", undefined, null, ["no: The addon cannot be loaded."]],
    [
      "a CPU-only build",
      cpuBuild,
      null,
      ["no: This build has no CUDA backend; docs/cuda.md says how to make one that has."],
    ],
    [
      "a CPU-only build beside a GPU",
      cpuBuild,
      "NVRM 580.1",
      ["no: This build has no CUDA backend; docs/cuda.md says how to make one that has.", "NVRM 580.1"],
    ],
    [
      "a driver that is too old",
      cudaReport([], { driverVersion: "12.4", problem: "The driver is for CUDA 12.4, and 13.0 is needed." }),
      null,
      ["no: The driver is for CUDA 12.4, and 13.0 is needed.", "driver 12.4, runtime 13.0"],
    ],
    [
      "a device that can be used, and one that cannot",
      cudaReport([cudaDevice(0), cudaDevice(1, { ...old, problem })]),
      "NVRM 580.1",
      [
        "yes",
        "driver 13.0, runtime 13.0, NVRM 580.1",
        "cuda:0  NVIDIA H100 80GB HBM3, compute capability 9.0, 85.0 GB, 80.0 GB free",
        `cuda:1  Tesla T4, compute capability 7.5, 85.0 GB, 80.0 GB free; not usable: ${problem}`,
      ],
    ],
    [
      "an emulator",
      cudaReport([cudaDevice(0, { name: "emulator", totalBytes: 2e9, freeBytes: 1e9 })], { emulated: true }),
      null,
      [
        "no: This build's CUDA backend is an emulator for tests, which computes on the CPU.",
        "driver 13.0, runtime 13.0",
        "cuda:0  emulator, compute capability 9.0, 2.00 GB, 1.00 GB free",
      ],
    ],
    [
      "libraries",
      cudaReport([cudaDevice(0)], {
        libraries: [
          { name: "cuBLASLt", path: "/opt/lib/libcublasLt.so.13", version: "13.0.2" },
          { name: "NCCL", problem: "libnccl.so.2: cannot open shared object file" },
        ],
      }),
      null,
      [
        "yes",
        "driver 13.0, runtime 13.0",
        "cuda:0  NVIDIA H100 80GB HBM3, compute capability 9.0, 85.0 GB, 80.0 GB free",
        "cuBLASLt  13.0.2, /opt/lib/libcublasLt.so.13",
        "NCCL  not found: libnccl.so.2: cannot open shared object file",
      ],
    ],
  ];
  for (const [name, report, driver, expected] of cases) {
    test(name, () => {
      const section = toCudaSection(report, driver);
      const rows = cudaRows(section);
      assert.deepEqual(
        rows,
        expected.map((text, i) => [i === 0 ? "CUDA" : "", text]),
      );
      assert.equal(section.usable, expected[0] === "yes");
      assert.equal(section.reason === null, section.usable);
      assert.deepEqual(JSON.parse(JSON.stringify(section)), section, "nothing is lost in JSON");
    });
  }
});
