import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { root } from "../package/programs.js";

// scripts/sass/: what is counted in machine code, on excerpts of what nvcc 13.0 made for sm_90 of the kernel for few rows:
// the code up to its wait for earlier kernels, and its main loop. In one the weights go from memory to registers four
// slots ahead in the source, and all on one scoreboard in the machine code. In the other they go through a ring of five slots.

interface Instruction {
  address: number;
  predicate?: string;
  opcode: string;
  operands: string;
  sets?: number;
  releases?: number;
  waits: number[];
}
interface Listing {
  architecture: string;
  mangled: string;
  instructions: Instruction[];
}
interface Rule {
  file: string;
  kernel: string;
  holds: string[];
  ring?: number;
  least?: Record<string, number>;
}
type Measured = Record<string, number | string | boolean | undefined>;
interface Kernel {
  file: string;
  kernel: string;
  architecture: string;
  measured: Measured;
}
interface Expected {
  mostKib: number;
  larger: { file: string; kernel: string; kib: number; reason: string }[];
  late: { file: string; kernel: string; reason: string }[];
  loops: Rule[];
  kernels: Record<string, Record<string, Record<string, Measured>>>;
}

const load = (name: string) => import(`${root}scripts/sass/${name}.mjs`);
const { readListing }: { readListing(text: string): Listing[] } = await load("listing");
const { measure }: { measure(listing: Listing, rule?: Rule): Measured } = await load("measure");
const { tableOf }: { tableOf(kernels: Kernel[]): string } = await load("table");
const {
  compare,
  templateArguments,
  updated,
}: {
  compare(
    kernels: Kernel[],
    expected: Expected,
    options?: { isUpdate: boolean },
  ): { failures: string[]; notes: string[] };
  templateArguments(kernel: string): string[];
  updated(kernels: Kernel[], expected: Expected): Expected;
} = await load("expectations");

function readOne(name: string): Listing {
  const [listing] = readListing(readFileSync(`${root}test/fixtures/sass/${name}.sass`, "utf8"));
  assert.ok(listing);
  return listing;
}

const registers = readOne("few_tokens_registers");
const ring = readOne("few_tokens_ring");
const file = "projection_few.cu";
const rule: Rule = { file, kernel: "^fewTokensKernel<", holds: ["HMMA", "^LDG"], ring: 3 };
const ringName = "fewTokensKernel<__half, 1, 5, (Input)2>";
const withRing: Kernel = { file, kernel: ringName, architecture: "sm_90", measured: measure(ring, rule) };
const empty: Expected = { mostKib: 24, larger: [], late: [], loops: [rule], kernels: {} };
const expected = updated([withRing], empty);

test("control bits say which scoreboards an instruction sets, releases and waits for", () => {
  assert.equal(ring.architecture, "sm_90");
  assert.match(ring.mangled, /fewTokensKernel/);
  const at = (address: number) => ring.instructions.find((instruction) => instruction.address === address);
  const { opcode, sets, releases, waits } = at(0x5d0) ?? {};
  assert.deepEqual(
    { opcode, sets, releases, waits },
    { opcode: "LDGSTS.E.BYPASS.128", sets: undefined, releases: 1, waits: [] },
  );
  assert.equal(at(0x3820)?.opcode, "LDGDEPBAR");
  assert.equal(at(0x3820)?.sets, 0);
  // It multiplies what was read from shared memory, by loads that set the last scoreboard.
  assert.equal(at(0x35f0)?.opcode, "HMMA.16816.F32");
  assert.deepEqual(at(0x35f0)?.waits, [5]);
  assert.equal(at(0x3850)?.predicate, "!P2");
});

test("a ring's copies are under way while the loop multiplies", () => {
  const { copies, groups, loads, narrow, early, trigger } = withRing.measured;
  // Four slots of four 128-bit copies beside the one that is multiplied.
  assert.deepEqual(
    { copies, groups, loads, narrow, early, trigger },
    { copies: 16, groups: 4, loads: undefined, narrow: 0, early: 4, trigger: "ahead" },
  );
  assert.deepEqual(compare([withRing], expected), { failures: [], notes: [] });
});

test("loads on one scoreboard are one slot deep, whatever the source says, and fail what the ring passed", () => {
  const measured = measure(registers, rule);
  assert.equal(measured.loads, 0);
  assert.equal(measured.groups, undefined);
  assert.equal(measured.early, 16);
  const regression = { ...withRing, measured };
  const { failures } = compare([regression], expected);
  const where = `${file}, ${ringName}, sm_90`;
  assert.ok(
    failures.includes(`${where}: 0 groups of copies left under way, at least 4 are needed`),
    failures.join("\n"),
  );
  assert.ok(failures.includes(`${where}: 0 copies left under way, before it was 16`));
  assert.ok(failures.includes(`${where}: 0 loads into registers left under way, before it was none at all`));
  // What the file asks of a ring cannot be written off.
  assert.notDeepEqual(compare([regression], expected, { isUpdate: true }).failures, []);
  // It may load more ahead of its wait: that is told and not failed.
  const improved = { ...withRing, measured: { ...withRing.measured, early: 8 } };
  assert.deepEqual(compare([improved], expected), {
    failures: [],
    notes: [`${where}: 8 128-bit loads ahead of the wait for the kernels before, before it was 4`],
  });
});

/** Machine code of these instructions, 16 bytes each: [text, scoreboard that it sets, scoreboards that it waits for]. */
function assemble(...code: [text: string, sets?: number, waits?: number[]][]): Listing {
  const hex = (value: bigint) => value.toString(16).padStart(16, "0");
  const lines = code.map(([text, sets = 7, waits = []], place) => {
    const mask = waits.reduce((bits, index) => bits | (1 << index), 0);
    const control = BigInt(1 | (sets << 5) | (7 << 8) | (mask << 11)) << 41n;
    const address = (place * 16).toString(16).padStart(4, "0");
    return `        /*${address}*/    ${text} ;    /* 0x${hex(0n)} */\n        /* 0x${hex(control)} */`;
  });
  const [listing] = readListing(["\tcode for sm_90", "\t\tFunction : kernel", ...lines].join("\n"));
  assert.ok(listing);
  return listing;
}

const load128 = "LDG.E.128 R4, desc[UR4][R2.64]";
const multiply = "HMMA.16816.F32 R8, R4, R6, R8";

test("loads on two scoreboards are under way while one is waited for", () => {
  const body: Parameters<typeof assemble> = [
    [multiply, 7, [2]],
    [load128, 2],
    [load128, 2],
    [multiply, 7, [3]],
    [load128, 3],
    [load128, 3],
    ["@P0 BRA 0x0"],
  ];
  assert.equal(measure(assemble(...body), rule).loads, 2);
  const narrower = body.map(([text, ...rest]) => [text.replace("LDG.E.128", "LDG.E.64"), ...rest]) as typeof body;
  assert.equal(measure(assemble(...narrower), rule).narrow, 4);
});

test("a count behind DEPBAR leaves as many under way", () => {
  const loop = (wait: string) =>
    measure(assemble([wait], [multiply], [load128, 1], [load128, 1], ["@P0 BRA 0x0"]), rule).loads;
  assert.equal(loop("DEPBAR.LE SB1, 0x3"), 3);
  assert.equal(loop("DEPBAR.LE SB1, 0x0"), 0);
});

test("the main loop is the innermost one that holds what the rule names", () => {
  const listing = assemble(
    ["LDG.E.U16 R4, desc[UR4][R2.64]", 4],
    [load128, 1],
    ["DEPBAR.LE SB1, 0x2"],
    [multiply],
    ["@P0 BRA 0x10"],
    ["@P1 BRA 0x0"],
  );
  assert.deepEqual(measure(listing, rule), {
    bytes: 96,
    local: 0,
    waits: false,
    trigger: "never",
    delay: undefined,
    loads: 2,
    narrow: 0,
    elements: 1,
    early: undefined,
  });
  assert.deepEqual(
    compare([{ ...withRing, measured: measure(assemble(["EXIT"]), rule) }], expected, { isUpdate: true }).failures,
    [
      `${file}, ${ringName}, sm_90: does not wait for the kernels ahead of it`,
      `${file}, ${ringName}, sm_90: never lets the next kernels start`,
      `${file}, ${ringName}, sm_90: has no loop that holds HMMA and ^LDG`,
    ],
  );
});

test("a loop reaches to the last branch back to its beginning", () => {
  const narrow = "LDG.E R4, desc[UR4][R2.64]";
  const listing = assemble([multiply], [load128, 1], ["@P0 BRA 0x0"], [narrow, 1], ["@P1 BRA 0x0"]);
  assert.equal(measure(listing, rule).narrow, 1);
});

test("no kernel may use local memory, start the next ones before its own wait, or not wait", () => {
  const failuresOf = (architecture: string, ...code: Parameters<typeof assemble>) => {
    const measured = measure({ ...assemble(...code), architecture });
    return compare([{ file: "norm.cu", kernel: "k", architecture, measured }], empty).failures;
  };
  assert.deepEqual(failuresOf("sm_90", ["ACQBULK"], ["PREEXIT"], ["EXIT"], ["BRA 0x30"]), []);
  assert.deepEqual(failuresOf("sm_80", ["EXIT"]), []);
  assert.match(failuresOf("sm_80", ["STL [R1], R4"], ["LDL R4, [R1]"]).join(), /2 instructions use local memory/);
  assert.match(failuresOf("sm_90", ["EXIT"]).join(), /does not wait/);
  assert.match(failuresOf("sm_90", ["PREEXIT"], ["ACQBULK"], ["EXIT"]).join(), /before its own wait/);
});

test("a kernel lets the next ones start right behind its wait, or there is a reason", () => {
  const wait: [string] = ["ACQBULK"];
  const trigger: [string] = ["PREEXIT"];
  const loop: Parameters<typeof assemble> = [[multiply], [load128, 1], ["@P0 BRA 0x10"]];
  const kernelOf = (...code: Parameters<typeof assemble>): Kernel => ({
    ...withRing,
    measured: measure(assemble(...code), rule),
  });
  const late = (kernel: Kernel, entries: Expected["late"] = []) =>
    compare([kernel], { ...empty, loops: [{ ...rule, ring: undefined }], late: entries }, { isUpdate: true }).failures;
  const where = `${file}, ${ringName}, sm_90`;
  const behindLoop = kernelOf(wait, ...loop, trigger);
  assert.deepEqual(late(behindLoop), [
    `${where}: lets the next kernels start behind the beginning of its main loop, not ahead of it`,
  ]);
  assert.deepEqual(late(kernelOf(["NOP"], ...loop, wait, trigger)).length, 1);
  const behindLoad = kernelOf(wait, [load128, 1], trigger, ...loop.slice(0, 2), ["@P0 BRA 0x30"]);
  assert.deepEqual(late(behindLoad), [
    `${where}: 1 accesses of memory, barriers or loops between its wait and the start of the next kernels`,
  ]);
  const soon = kernelOf(["NOP"], wait, ["@P1 EXIT"], trigger, ...loop.slice(0, 2), ["@P0 BRA 0x40"]);
  assert.deepEqual(late(soon), []);
  // A wait of blocks that have nothing to do counts for them alone.
  const other = kernelOf(wait, ["EXIT"], wait, trigger, ...loop.slice(0, 2), ["@P0 BRA 0x40"]);
  assert.deepEqual(late(other), []);
  assert.deepEqual(late(kernelOf(wait, ...loop)), [`${where}: never lets the next kernels start`]);
  const entry = { file, kernel: "^fewTokensKernel<", reason: "a test" };
  assert.deepEqual(late(behindLoop, [entry]), []);
  const excused = { ...empty, late: [entry] };
  assert.deepEqual(compare([withRing], { ...expected, late: [entry] }).failures, [
    `${file}, ${entry.kernel}: no such kernel lets the next ones start late`,
  ]);
  assert.deepEqual(updated([withRing], excused).late, [entry]);
});

test("loads ahead of the wait are not those ahead of the end of a block without work", () => {
  const listing = assemble(
    ["ACQBULK"],
    ["EXIT"],
    [load128, 1],
    ["ACQBULK"],
    [multiply, 7, [1]],
    [load128, 1],
    ["@P0 BRA 0x40"],
  );
  assert.equal(measure(listing, rule).early, 1);
  assert.equal(measure({ ...listing, architecture: "sm_80" }, rule).early, undefined);
});

test("a kernel of more code than others needs a reason", () => {
  const kernel = {
    file: "norm.cu",
    kernel: "normKernel<1>",
    architecture: "sm_80",
    measured: { bytes: 25 * 1024, local: 0 },
  };
  const larger = { file: "norm.cu", kernel: "^normKernel<", kib: 30, reason: "a test" };
  const problems = (kib?: number, bytes = kernel.measured.bytes) =>
    compare([{ ...kernel, measured: { ...kernel.measured, bytes } }], {
      ...empty,
      larger: kib ? [{ ...larger, kib }] : [],
    }).failures;
  assert.deepEqual(problems(), ["norm.cu, normKernel<1>, sm_80: 25.0 KiB of code, at most 24 are allowed"]);
  assert.deepEqual(problems(25), []);
  assert.match(problems(25, 25 * 1024 + 16).join(), /at most 25/);
  assert.match(problems(25, 1024).join(), /no such kernel has more than 24 KiB/);
  assert.deepEqual(updated([kernel], { ...empty, larger: [larger] }).larger, [{ ...larger, kib: 25 }]);
  assert.deepEqual(updated([], { ...empty, larger: [larger] }).larger, []);
});

test("kernels that come and go must be written down", () => {
  const other = { ...withRing, kernel: "fewTokensKernel<__half, 1, 3, (Input)2>" };
  assert.deepEqual(compare([other], expected).failures, [
    `${file}, ${other.kernel}, sm_90: not in the table`,
    `${file}, ${ringName}: in the table, but no such kernel was compiled`,
  ]);
});

test("template arguments are told apart", () => {
  assert.deepEqual(templateArguments(ringName), ["__half", "1", "5", "(Input)2"]);
  assert.deepEqual(templateArguments("many<__half, TileShape<128, 64> >"), ["__half", "TileShape<128, 64>"]);
  assert.deepEqual(templateArguments("planKernel"), []);
});

test("the table has a line a kernel", () => {
  const lines = tableOf([withRing, { ...withRing, measured: measure(registers, rule) }]).split("\n");
  assert.deepEqual(lines[0]?.trim().split(/\s+/), [
    "registers",
    "KiB",
    "groups",
    "copies",
    "loads",
    "narrow",
    "elements",
    "early",
    "trigger",
  ]);
  assert.match(lines[1] ?? "", /^sm_90 +- +\S+ +4 +16 +- +0 +0 +4 +ahead {2}projection_few\.cu fewTokensKernel</);
  assert.match(lines[2] ?? "", /^sm_90 +- +\S+ +- +- +0 +0 +0 +16 +-/);
});
