import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { root } from "./native_build.js";

// scripts/gpu-check.sh without a GPU: with a stand-in for each tool and each executable.

const nvidiaSmi = `case $1 in
  *name*) echo "NVIDIA H200" ;; *compute_cap*) echo 9.0 ;; *driver*) echo 580.65.06 ;; *memory*) echo 143771 ;;
esac`;

/** Says what it was called with; a case called "hangs" hangs, with a child, and neither minds SIGTERM. */
const kernelTests = `if [ "$1" = --list ]; then
  for topic in cuda_norm cuda_projection cuda_attention_decode cuda_attention_prefill hangs all_reduce cuda_group fails; do echo "$topic/case"; done | grep -e "\${3-/}"
  exit
fi
echo "cuda_tests $*" >>"$CALLS"
case "$*" in
  *hangs*) trap '' TERM; sleep 60 & echo "$! $$" >"$CALLS.pids"; wait; sleep 60 ;;
  *fails*) echo "0 passed, 1 failed"; exit 1 ;;
esac
echo "connections $CUDA_DEVICE_MAX_CONNECTIONS, loading $CUDA_MODULE_LOADING, libraries $LD_LIBRARY_PATH"
echo "1 passed, 0 failed"`;

/** Writes figures as gpu_bench does, of the parts that it was asked for. */
const gpuBench = `echo "gpu_bench PDL=\${SHARDSPEED_CUDA_PDL-} GRAPHS=\${SHARDSPEED_CUDA_GRAPHS-} $*" >>"$CALLS"
while [ $# -gt 0 ]; do
  case $1 in --json) json=$2 ;; --only) only=$2 ;; esac
  shift
done
case $only in
  model) figure='{"part": "model", "kernel": "decode", "model": "Llama-3-8B", "shape": "1 sequences", "microseconds": 3984, "bytes": 1.6e+10, "tokensPerSecond": 251}' ;;
  *) figure='{"part": "'$only'", "kernel": "down+residual", "model": "Llama-3-8B", "shape": "1 rows", "microseconds": 50, "bytes": 117440512}' ;;
esac
printf '{\\n"dtype": "float16",\\n"smoke": false,\\n"copyBytesPerSecond": 4.1e+12,\\n"readBytesPerSecond": 4.5e+12,\\n"notes": [],\\n"failures": [],\\n"figures": [\\n%s\\n]\\n}\\n' "$figure" >"$json"
printf 'device\\n\\nmemory model\\nread 1\\n\\n%s model\\n' "$only"`;

const caller = `echo "$(basename "$0") $*" >>"$CALLS"; echo "== said by $(basename "$0")"`;

interface StandIns {
  folder: string;
  args: string[];
  env: NodeJS.ProcessEnv;
  calls(): string[];
}

/** A folder of stand-ins; tools: those beside nvidia-smi that are in PATH. */
function makeStandIns(tools: Record<string, string> = { ncu: caller, "compute-sanitizer": caller }): StandIns {
  const folder = mkdtempSync(path.join(tmpdir(), "gpu-check-"));
  const write = (name: string, text: string) => {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), `#!/bin/bash\n${text}\n`);
    chmodSync(path.join(folder, name), 0o755);
  };
  for (const [name, text] of Object.entries({ "nvidia-smi": nvidiaSmi, ...tools })) write(`bin/${name}`, text);
  write("executables/cuda_tests", kernelTests);
  write("executables/gpu_bench", gpuBench);
  write("executables/gpu_probe", "echo wgmma n64 against n8: same bits");
  const wheels = path.join(folder, "venv", "lib", "python3.12", "site-packages", "nvidia");
  for (const library of ["cublas/lib/libcublasLt.so.13", "nccl/lib/libnccl.so.2"]) {
    mkdirSync(path.join(wheels, path.dirname(library)), { recursive: true });
    writeFileSync(path.join(wheels, library), "");
  }
  const calls = path.join(folder, "calls");
  return {
    folder,
    args: [
      "scripts/gpu-check.sh",
      "--prebuilt",
      path.join(folder, "executables"),
      "--out",
      path.join(folder, "reports"),
    ],
    env: {
      ...process.env,
      PATH: `${folder}/bin:${process.env.PATH}`,
      VIRTUAL_ENV: path.join(folder, "venv"),
      CALLS: calls,
    },
    calls: () => (existsSync(calls) ? readFileSync(calls, "utf8").trim().split("\n") : []),
  };
}

function gpuCheck(args: string[], env = process.env) {
  return spawnSync("/bin/bash", ["scripts/gpu-check.sh", ...args], { cwd: root, encoding: "utf8", env });
}

function runStandIns({ args, env }: StandIns, ...more: string[]) {
  return spawnSync("/bin/bash", [...args, ...more], { cwd: root, encoding: "utf8", env });
}

/** What lies in the archive under this name. */
function packed({ folder }: StandIns, name: string): string {
  const { stdout, status, stderr } = spawnSync("tar", ["-xzOf", `${folder}/reports.tar.gz`, `reports/${name}`], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

interface Part {
  part: string;
  result: string;
}

const partsOf = (standIns: StandIns): Part[] => JSON.parse(packed(standIns, "results.json")).parts;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // A process that has ended and that nobody has waited for runs no more.
  return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

const hangingOnes = ({ folder }: StandIns) =>
  readFileSync(path.join(folder, "calls.pids"), "utf8").split(" ").map(Number);

test("gpu-check.sh and its pieces are scripts that bash reads", () => {
  const pieces = ["gpu-check", "gpu/find", "gpu/parts", "gpu/build", "gpu/plan"].map((name) => `scripts/${name}.sh`);
  for (const piece of pieces) {
    const { status, stderr } = spawnSync("/bin/bash", ["-n", piece], { cwd: root, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  }
});

test("gpu-check.sh names topics that there are, and knows which of them wait for other ranks", () => {
  const folder = path.join(root, "test", "native", "cuda");
  const sources = readdirSync(folder).filter((name) => name.endsWith("_test.cpp"));
  const texts = sources.map((name) => readFileSync(path.join(folder, name), "utf8"));
  const topicsOf = (text: string) => [...text.matchAll(/^TEST\((\w+),/gm)].map(([, topic = ""]) => topic);
  const topics = new Set(texts.flatMap(topicsOf));
  const plan = readFileSync(path.join(root, "scripts", "gpu", "plan.sh"), "utf8");
  const first = /^first_topics=\((.*)\)$/m.exec(plan)?.[1]?.split(" ") ?? [];
  const spinning = /^spinning=(.*)$/m.exec(plan)?.[1]?.split(",") ?? [];
  const checked = [...plan.matchAll(/(?:memcheck|racecheck)\/(\w+)/g)].map(([, topic = ""]) => topic);
  assert.ok(first.length > 0 && spinning.length > 0 && checked.length > 0);
  for (const topic of [...first, ...spinning, ...checked]) assert.ok(topics.has(topic), topic);
  // What is profiled is chosen by the names of kernels.
  const cuda = path.join(root, "cuda");
  const kernels = readdirSync(cuda)
    .filter((name) => name.endsWith(".cu"))
    .map((name) => readFileSync(path.join(cuda, name), "utf8"));
  const profiled = [...plan.matchAll(/^ {2}profile \S+ '?([\w|]+)/gm)].flatMap(([, names = ""]) => names.split("|"));
  assert.equal(profiled.length, 4);
  for (const name of profiled)
    assert.ok(
      kernels.some((text) => text.includes(`${name}(`)),
      name,
    );
  // Tests that only the emulator runs need not be known here.
  const ofRanks = texts.filter(
    (text) => !text.startsWith("#ifdef SHARDSPEED_CUDA_EMULATOR") && /"cuda\/rank_/.test(text),
  );
  assert.deepEqual(new Set(ofRanks.flatMap(topicsOf)), new Set(spinning));
});

test("gpu-check.sh lists its options", () => {
  const { status, stdout } = gpuCheck(["--help"]);
  assert.equal(status, 0);
  for (const option of ["--toolkit", "--device", "--out", "--prebuilt", "--build-only", "--arch", "--only", "--skip"])
    assert.ok(stdout.includes(option), option);
});

test("gpu-check.sh says what it found and what it expected", () => {
  for (const [args, message] of [
    [["--fast"], /^Found --fast, expected one of the options that --help lists/],
    [["--out"], /^--out needs a value/],
    [["--toolkit", "/nowhere", "--build-only", "--arch", "90"], /^gpu-check: --toolkit \/nowhere has no bin\/nvcc\./],
    [["--build-only"], /^gpu-check: --build-only needs --arch/],
    [["--arch", "hopper"], /^gpu-check: found --arch hopper, expected a number such as 90\./],
    [["--only", "tests"], /^gpu-check: found section tests, expected some of topics,/],
    [["--limit", "test-rows"], /^Found --limit test-rows, expected a part's name, =, and seconds/],
    [["--prebuilt", "/nowhere"], /^gpu-check: --prebuilt \/nowhere holds no cuda_tests/],
  ] as const) {
    const { status, stderr } = gpuCheck([...args]);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});

test("gpu-check.sh ends what hangs with all its processes, and goes on", () => {
  const standIns = makeStandIns();
  const { status, stdout } = runStandIns(standIns, "--limit", "test-hangs=5", "--skip", "sanitizer,profile");
  assert.equal(status, 1, stdout);
  assert.match(stdout, /^FAILED: test-fails test-hangs \(reports in /m);
  const results = new Map(partsOf(standIns).map(({ part, result }) => [part, result]));
  assert.equal(results.get("test-hangs"), "no end within 5 s");
  assert.equal(results.get("test-fails"), "failed with exit status 1");
  for (const part of [
    "start",
    "test-cuda_norm",
    "test-all_reduce",
    "test-cuda_group",
    "probe",
    "verify",
    "products",
    "prompt",
  ])
    assert.equal(results.get(part), "passed", part);
  for (const pid of hangingOnes(standIns)) assert.ok(!isRunning(pid), `process ${pid} goes on`);
  const order = [...results.keys()];
  assert.ok(order.indexOf("test-cuda_projection") < order.indexOf("test-cuda_norm"), "the product's tests come first");
  assert.ok(order.indexOf("test-hangs") < order.indexOf("test-all_reduce"), "several ranks come after one");
});

test("gpu-check.sh finds libraries in Python packages, and gives ranks queues of their own", () => {
  const standIns = makeStandIns();
  const { stdout } = runStandIns(standIns, "--only", "topics", "--filter", "cuda_norm");
  assert.match(stdout, /libcublasLt: \S+\/nvidia\/cublas\/lib\/libcublasLt\.so\.13, libnccl: \S+\/nvidia\/nccl\/lib/);
  const said = packed(standIns, "test-cuda_norm.txt");
  assert.match(said, /connections 32, loading EAGER, libraries \S*\/nvidia\/cublas\/lib:\S*\/nvidia\/nccl\/lib/);
});

test("gpu-check.sh prints predictions beside what was measured", () => {
  const standIns = makeStandIns();
  const { status, stdout } = runStandIns(standIns, "--only", "models,table");
  assert.equal(status, 0, stdout);
  assert.match(stdout, /model decode Llama-3-8B 1 sequences +tokens\/s +219 +252 +275 +281 +251 +as ring$/m);
  assert.match(stdout, /projection down\+residual Llama-3-8B 1 rows +% of read +72 +92 +92 +92 +52\.2 +MISSED$/m);
  assert.match(stdout, /OPT-30B 1 sequences .* - +not measured$/m);
  assert.ok(standIns.calls().some((call) => call.startsWith("gpu_bench PDL=0 GRAPHS= ")));
  assert.ok(standIns.calls().some((call) => call.startsWith("gpu_bench PDL= GRAPHS=0 ")));
  const markdown = spawnSync(process.execPath, ["scripts/gpu/report.mjs", `${standIns.folder}/reports.tar.gz`], {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(markdown.status, 0, markdown.stderr);
  assert.match(markdown.stdout, /^## NVIDIA H200$/m);
  assert.match(markdown.stdout, /^\| Llama-3-8B, decode \| 1 sequences \| 3984\.0 \| 4016 \| 89 % \| +\| 251\.0 \|$/m);
  assert.match(markdown.stdout, /as ring$/m);
});

test("gpu-check.sh keeps kernels that wait for each other from tools that run one at a time", () => {
  const standIns = makeStandIns();
  const { status, stdout } = runStandIns(standIns, "--only", "profile,sanitizer");
  assert.equal(status, 0, stdout);
  const calls = standIns.calls().filter((call) => /^(ncu|compute-sanitizer) /.test(call));
  assert.equal(calls.filter((call) => call.startsWith("ncu ")).length, 3);
  assert.deepEqual(
    calls
      .filter((call) => call.startsWith("compute-sanitizer "))
      .map((call) => call.replace(/ --error.* --filter/, "")),
    [
      "memcheck cuda_projection/",
      "memcheck cuda_attention_decode/",
      "memcheck cuda_attention_prefill/",
      "racecheck cuda_projection/",
    ].map((call) => `compute-sanitizer --tool ${call}`),
  );
  for (const call of calls) assert.doesNotMatch(call, /all_reduce|gather_logits|group/);
});

test("gpu-check.sh goes on where tools are missing, and fails where the sanitizer finds something", () => {
  const none = makeStandIns({});
  // No folder of the system that might hold one.
  const without = runStandIns(none, "--only", "profile,sanitizer");
  if (!/ncu-one-row|memcheck/.test(without.stdout)) {
    assert.equal(without.status, 0, without.stdout);
    assert.deepEqual(
      partsOf(none).map(({ result }) => result.replace(/:.*/, "")),
      ["passed", "not run", "not run"],
    );
  }
  const found = makeStandIns({ "compute-sanitizer": "echo '========= Invalid __global__ read'; exit 86" });
  const failing = runStandIns(found, "--only", "sanitizer");
  assert.equal(failing.status, 1, failing.stdout);
  assert.match(failing.stdout, /^FAILED: memcheck-cuda_projection /m);
});

test("gpu-check.sh forgives a tool what is no finding", () => {
  const standIns = makeStandIns({
    ncu: "echo '    Section: GPU Speed Of Light Throughput'; exit 9",
    "compute-sanitizer": "echo '========= COMPUTE-SANITIZER'; case $* in *memcheck*projection*) sleep 60 ;; esac",
  });
  const { status, stdout } = runStandIns(
    standIns,
    "--only",
    "profile,sanitizer",
    "--limit",
    "memcheck-cuda_projection=2",
  );
  assert.equal(status, 0, stdout);
  const results = new Map(partsOf(standIns).map(({ part, result }) => [part, result]));
  assert.match(results.get("ncu-decode") ?? "", /^failed with exit status 9, but the kernel was profiled/);
  assert.match(results.get("memcheck-cuda_projection") ?? "", /^no end within 2 s, but nothing was found until then$/);
});

test("gpu-check.sh packs after each part, and stops all of it at Ctrl-C", async () => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    const standIns = makeStandIns();
    const child = spawn("/bin/bash", [...standIns.args, "--only", "topics"], {
      cwd: root,
      env: standIns.env,
      stdio: "ignore",
      detached: true,
    });
    const ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
    const pids = path.join(standIns.folder, "calls.pids");
    while (!existsSync(pids) || readFileSync(pids, "utf8").trim() === "") await sleep(20);
    assert.deepEqual(
      partsOf(standIns)
        .map(({ part }) => part)
        .slice(0, 3),
      ["start", "test-cuda_projection", "test-cuda_norm"],
      "the archive is there while a part hangs",
    );
    process.kill(child.pid ?? 0, signal);
    assert.equal(await ended, 130);
    for (const pid of hangingOnes(standIns)) assert.ok(!isRunning(pid), `process ${pid} goes on after ${signal}`);
    assert.equal(partsOf(standIns).at(-1)?.result, "interrupted");
  }
});

test("gpu-check.sh says why executables do not run here", () => {
  const standIns = makeStandIns();
  writeFileSync(
    path.join(standIns.folder, "executables", "cuda_tests"),
    "#!/bin/bash\necho 'GLIBC_2.99 not found'; exit 1\n",
  );
  const { status, stderr } = runStandIns(standIns);
  assert.equal(status, 1);
  assert.match(stderr, /GLIBC_2\.99 not found\ngpu-check: the executables do not run here/);
});
