// The seeded faults of test/mutants/*.json, and what is wrong with a list of them.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";

export const root = path.resolve(import.meta.dirname, "../..");

/** The kinds of faults that are seeded, so that a list shows which of them a room lacks. */
export const kinds = [
  "off-by-one",
  "wrong comparison",
  "dropped check",
  "swapped arguments",
  "wrong unit",
  "missing lock or notify",
  "missing cleanup",
  "wrong default",
  "stale state",
  "wrong operand",
];

const suites = ["typescript", "native", "cuda"];
const texts = ["name", "kind", "file", "before", "after", "suite", "test"];

/** All seeds in the order of their files, those whose source or list has one of the parts in its path. */
export function readSeeds(parts) {
  const folder = path.join(root, "test", "mutants");
  const seeds = readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .sort()
    .flatMap((name) => {
      const list = `test/mutants/${name}`;
      return JSON.parse(readFileSync(path.join(root, list), "utf8")).map((seed) => ({ list, ...seed }));
    });
  if (parts.length === 0) return seeds;
  return seeds.filter(({ file, list }) => parts.some((part) => file.includes(part) || list.includes(part)));
}

/** The paths of the compiled TypeScript tests, as test/run.mjs compares parts of names with them. */
function typescriptTests() {
  return readdirSync(path.join(root, "test"), { recursive: true })
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => name.replaceAll(path.sep, "/").replace(/\.ts$/, ".js"));
}

/** The topic/name of the C++ cases in a folder and those below it. */
function nativeCases(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(".cpp"))
    .flatMap((name) => {
      const text = readFileSync(path.join(folder, name), "utf8");
      return Array.from(text.matchAll(/^\w*TEST\w*\((\w+),\s*(\w+)/gm), ([, topic, title]) => `${topic}/${title}`);
    });
}

/** Answers whether a suite has a test of a name. */
export function createTestFinder() {
  const native = path.join(root, "test", "native");
  const names = {
    typescript: typescriptTests(),
    native: nativeCases(native),
    cuda: nativeCases(path.join(native, "cuda")),
  };
  return (suite, test) => test.split(",").every((part) => names[suite].some((name) => name.includes(part)));
}

export function isUnitTest(test) {
  const files = typescriptTests().filter((file) => test.split(",").some((part) => file.includes(part)));
  return files.every((file) => file.endsWith(".unit.test.js"));
}

/** How often the text of a fault stands in its file. */
export function countPlaces(text, seed) {
  return text.split(seed.before).length - 1;
}

/** Why a seed cannot be sown, or undefined. */
export function problemOf(seed, hasTest) {
  const missing = texts.find((key) => typeof seed[key] !== "string" || seed[key] === "");
  if (missing !== undefined && !(missing === "after" && seed.after === "")) return `has no "${missing}"`;
  if (!kinds.includes(seed.kind)) return `has the kind "${seed.kind}", expected one of: ${kinds.join(", ")}`;
  if (!suites.includes(seed.suite)) return `has the suite "${seed.suite}", expected one of: ${suites.join(", ")}`;
  if (seed.before === seed.after) return "changes nothing";
  const file = path.join(root, seed.file);
  if (!existsSync(file)) return `${seed.file} is not there any more`;
  const places = countPlaces(readFileSync(file, "utf8"), seed);
  if (places !== 1) return `its "before" stands ${places} times in ${seed.file}, expected once`;
  if (!hasTest(seed.suite, seed.test)) return `no ${seed.suite} test is named ${seed.test}`;
  return undefined;
}
