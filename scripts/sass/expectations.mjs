import { hasDependentLaunches } from "./measure.mjs";

// test/native/sass.json, what it asks of each kernel, and how what was measured differs from it.
//   mostKib  code of a kernel
//   larger   kernels that may have more: { file, kernel (a pattern of names), kib, reason }
//   late     kernels that may let the next ones start later than right behind their wait: { file, kernel (a pattern), reason }
//   loops    kernels that live by their loads: { file, kernel (a pattern), holds (patterns of opcodes by which the main loop
//            is found), ring?, least? }. ring: which template argument, counted from 1, is the number of slots of the
//            ring; one slot less must be under way. least: what the numbers of mainLoop must reach, by name
//   kernels  what was measured of those by the last --update

/** In `kernels`; of those behind the first four less is better. */
const moreIsBetter = ["copies", "groups", "loads", "early"];
const lessIsBetter = ["narrow", "elements"];
const triggers = ["early", "never", "behind", "ahead"];
const recorded = [...moreIsBetter, ...lessIsBetter, "trigger"];

const meanings = {
  copies: "copies left under way",
  groups: "groups of copies left under way",
  loads: "loads into registers left under way",
  early: "128-bit loads ahead of the wait for the kernels before",
  narrow: "loads of less than 128 bits in the main loop",
  elements: "loads of single elements",
};

export function ruleOf(expected, file, kernel) {
  return expected.loops.find((rule) => rule.file === file && new RegExp(rule.kernel).test(kernel));
}

/** "name<A, B<C, D>, E>" -> ["A", "B<C, D>", "E"] */
export function templateArguments(kernel) {
  const inner = /^[^<]*<(.*)>$/.exec(kernel)?.[1] ?? "";
  const parts = [];
  let depth = 0;
  let part = "";
  for (const character of inner) {
    if (character === "<") ++depth;
    if (character === ">") --depth;
    if (character === "," && depth === 0) {
      parts.push(part.trim());
      part = "";
    } else part += character;
  }
  return inner === "" ? [] : [...parts, part.trim()];
}

/** What a rule asks of the numbers, whatever was recorded. */
function floors(rule, kernel) {
  const least = { ...rule.least };
  if (rule.ring !== undefined) {
    const slots = Number(templateArguments(kernel)[rule.ring - 1]);
    least.groups = Math.max(least.groups ?? 0, slots - 1);
  }
  return least;
}

function* ruleFailures(rule, kernel, measured) {
  if (measured.narrow === undefined) {
    yield `has no loop that holds ${rule.holds.join(" and ")}`;
    return;
  }
  for (const [name, least] of Object.entries(floors(rule, kernel)))
    if (!((measured[name] ?? 0) >= least))
      yield `${measured[name] ?? 0} ${meanings[name]}, at least ${least} are needed`;
}

const entryOf = (entries, file, kernel) =>
  entries.find((entry) => entry.file === file && new RegExp(entry.kernel).test(kernel));

/** How a kernel lets the next ones start later than right behind its wait; undefined where it does not. */
function lateness(expected, { file, kernel, measured }) {
  if (measured.trigger === "never") return "never lets the next kernels start";
  if (measured.trigger === "behind" && ruleOf(expected, file, kernel))
    return "lets the next kernels start behind the beginning of its main loop, not ahead of it";
  if (measured.delay > 0)
    return `${measured.delay} accesses of memory, barriers or loops between its wait and the start of the next kernels`;
  return undefined;
}

/** What every kernel must do. */
function* generalFailures(expected, { file, kernel, architecture, measured }) {
  if (measured.trigger === "early") yield "lets the next kernels start before its own wait";
  if (measured.local > 0) yield `${measured.local} instructions use local memory`;
  const mostKib = entryOf(expected.larger, file, kernel)?.kib ?? expected.mostKib;
  if (measured.bytes > mostKib * 1024)
    yield `${(measured.bytes / 1024).toFixed(1)} KiB of code, at most ${mostKib} are allowed`;
  if (!hasDependentLaunches(architecture)) return;
  if (!measured.waits) yield "does not wait for the kernels ahead of it";
  const late = lateness(expected, { file, kernel, measured });
  if (late && !entryOf(expected.late, file, kernel)) yield late;
}

/** [failure, isBetter] for each number that differs from the recorded one. */
function* differences(measured, known) {
  for (const name of recorded) {
    const [is, was] = [measured[name], known[name]];
    if (is === was) continue;
    if (name === "trigger") {
      const isBetter = triggers.indexOf(is) > triggers.indexOf(was);
      yield [`lets the next kernels start: ${is} of the main loop, before it was ${was}`, isBetter];
    } else if (name === "loads" && (is === undefined || was === undefined)) {
      // A loop that loads no weights into registers has nothing to wait for.
      yield [`${is ?? "no"} ${meanings.loads}, before it was ${was ?? "none at all"}`, is === undefined];
    } else {
      const more = (is ?? 0) > (was ?? 0);
      yield [`${is ?? 0} ${meanings[name]}, before it was ${was ?? 0}`, more === moreIsBetter.includes(name)];
    }
  }
}

/**
 * kernels: [{ file, kernel, architecture, measured }]. { failures, notes }: texts of what is not as it must be or worse
 * than recorded, and of what is better. isUpdate: nothing is compared with what is recorded.
 */
export function compare(kernels, expected, { isUpdate = false } = {}) {
  const failures = [];
  const notes = [];
  const known = new Set(
    Object.entries(expected.kernels).flatMap(([file, names]) => Object.keys(names).map((name) => `${file}, ${name}`)),
  );
  for (const entry of kernels) {
    const { file, kernel, architecture, measured } = entry;
    const where = `${file}, ${kernel}, ${architecture}`;
    const fail = (text) => failures.push(`${where}: ${text}`);
    for (const text of generalFailures(expected, entry)) fail(text);
    const rule = ruleOf(expected, file, kernel);
    if (!rule) continue;
    for (const text of ruleFailures(rule, kernel, measured)) fail(text);
    known.delete(`${file}, ${kernel}`);
    if (isUpdate) continue;
    const before = expected.kernels[file]?.[kernel]?.[architecture];
    if (!before) fail("not in the table");
    else
      for (const [text, isBetter] of differences(measured, before))
        (isBetter ? notes : failures).push(`${where}: ${text}`);
  }
  if (isUpdate) return { failures, notes };
  for (const where of known) failures.push(`${where}: in the table, but no such kernel was compiled`);
  for (const entry of unneededLarger(kernels, expected))
    failures.push(`${entry.file}, ${entry.kernel}: no such kernel has more than ${expected.mostKib} KiB of code`);
  for (const entry of unneededLate(kernels, expected))
    failures.push(`${entry.file}, ${entry.kernel}: no such kernel lets the next ones start late`);
  return { failures, notes };
}

function isLarger(entry, expected, { file, kernel, measured }) {
  return measured.bytes > expected.mostKib * 1024 && entryOf(expected.larger, file, kernel) === entry;
}

function unneededLarger(kernels, expected) {
  return expected.larger.filter((entry) => !kernels.some((kernel) => isLarger(entry, expected, kernel)));
}

function unneededLate(kernels, expected) {
  const isLate = (kernel) => hasDependentLaunches(kernel.architecture) && lateness(expected, kernel);
  const excused = kernels.filter(isLate).map(({ file, kernel }) => entryOf(expected.late, file, kernel));
  return expected.late.filter((entry) => !excused.includes(entry));
}

/** The table that these kernels would pass, as far as it may be written by a program: sizes only where a reason stands. */
export function updated(kernels, expected) {
  const unneeded = unneededLarger(kernels, expected);
  const larger = expected.larger
    .filter((entry) => !unneeded.includes(entry))
    .map((entry) => {
      const sizes = kernels.filter((kernel) => isLarger(entry, expected, kernel)).map(({ measured }) => measured.bytes);
      return { ...entry, kib: Math.ceil(Math.max(...sizes) / 1024) };
    });
  const table = {};
  const sorted = [...kernels].sort((a, b) => {
    const [left, right] = [a, b].map(({ file, kernel, architecture }) => `${file}, ${kernel}, ${architecture}`);
    return left < right ? -1 : 1;
  });
  for (const { file, kernel, architecture, measured } of sorted) {
    if (!ruleOf(expected, file, kernel)) continue;
    table[file] ??= {};
    table[file][kernel] ??= {};
    table[file][kernel][architecture] = Object.fromEntries(
      recorded.filter((name) => measured[name] !== undefined).map((name) => [name, measured[name]]),
    );
  }
  return { ...expected, larger, kernels: table };
}
