import { isDeepStrictEqual } from "node:util";
import { type Checked, trueOrFalse } from "../base/rules.js";
import { type KeyDescription, type KeyType, modelYamlKeys } from "./keys.js";
import { plainScalar } from "./scalars.js";

/** Java's int, which the originals of these keys are. */
const largest = 2 ** 31 - 1;

/** Whether a value is one for this key, whatever source it is from. */
export function checkValue(name: string, value: unknown): Checked<unknown> {
  const { type, unit } = modelYamlKeys[name] as KeyDescription;
  if (type.kind === "integer") return checkInteger(type, unit, value);
  if (type.kind === "boolean") return checkBoolean(value);
  if (type.kind === "integers") return checkIntegers(value);
  if (type.kind === "word") return checkWord(name, type.words, value);
  const needed = name.startsWith("deepspeed.") ? "the path of a JSON file" : "text";
  return typeof value === "string" && value !== "" ? { value } : { expected: needed };
}

/** What is to be said of a value that is right in itself. */
export function remarkOn(name: string, value: unknown): string | undefined {
  const { noEffect, default: unset } = modelYamlKeys[name] as KeyDescription;
  return noEffect === undefined || isDeepStrictEqual(value, unset) ? undefined : `no effect here: ${noEffect}`;
}

const unitWords = { ms: " (milliseconds)", s: " (seconds)" } as const;

function checkInteger(
  { minimum, zeroIs }: Extract<KeyType, { kind: "integer" }>,
  unit: "ms" | "s" | undefined,
  value: unknown,
): Checked<unknown> {
  if (value === 0 && zeroIs !== undefined) return { value: zeroIs, remark: `0 is taken as ${zeroIs}` };
  const words = unit === undefined ? "" : unitWords[unit];
  if (!Number.isInteger(value) || (value as number) < minimum) {
    return { expected: `an integer of at least ${minimum}${words}` };
  }
  if ((value as number) > largest) return { expected: `an integer of at most ${largest}${words}` };
  return { value: (value as number) + 0 }; // -0 is 0
}

/** In quotes too: some templates write all values so. */
function checkBoolean(value: unknown): Checked<unknown> {
  return trueOrFalse(typeof value === "string" ? plainScalar(value) : value);
}

function checkIntegers(value: unknown): Checked<unknown> {
  if (!Array.isArray(value)) return { expected: "a list of GPU numbers" };
  const at = value.findIndex((id) => !Number.isInteger(id) || id < 0 || id > largest);
  if (at >= 0) return { expected: "an integer of at least 0", at };
  const seen = new Set<number>();
  const repeated = value.findIndex((id) => seen.size === seen.add(id).size);
  if (repeated >= 0) return { expected: "every GPU number once", at: repeated };
  return { value: [...value] };
}

function checkWord(name: string, words: Readonly<Record<string, string>>, value: unknown): Checked<unknown> {
  const word = typeof value === "string" ? value.toLowerCase() : undefined;
  if (word !== undefined && Object.hasOwn(words, word)) return { value: words[word] };
  const known = Object.keys(words).filter((word) => word !== "");
  const list = `${known.slice(0, -1).join(", ")} or ${known.at(-1)}`;
  const pipelines = name === "parallelType" && (word === "pp" || word === "pptp");
  return { expected: pipelines ? "tp or custom, which alone are served" : list };
}
