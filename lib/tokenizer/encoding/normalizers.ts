import { spellBytes } from "../byte_level.js";
import { flattenSequence, type JsonObject, stringOf } from "./json.js";
import { Pattern } from "./pattern.js";
import { createCharsMap } from "./precompiled.js";

/** Changes a text before it is split. */
export type Normalizer = (text: string) => string;

/** Reads the `normalizer` of a tokenizer.json. */
export function createNormalizer(config: unknown): Normalizer {
  const steps = flattenSequence(config, "normalizers", "normalizer").map(createStep);
  return (text) => steps.reduce((changed, step) => step(changed), text);
}

function createStep(config: JsonObject): Normalizer {
  switch (config.type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = config.type;
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      return lowercase;
    case "Strip": {
      const left = config.strip_left !== false;
      const right = config.strip_right !== false;
      return (text) => stripSpace(text, left, right);
    }
    case "StripAccents":
      return stripAccents;
    case "Replace":
      return createReplace(config);
    case "Prepend": {
      const prefix = stringOf(config.prepend, "normalizer.prepend");
      return (text) => (text === "" ? "" : prefix + text);
    }
    case "Nmt":
      return normalizeNmt;
    case "Precompiled":
      return createCharsMap(config.precompiled_charsmap);
    case "BertNormalizer":
      return createBert(config);
    case "ByteLevel":
      return spellBytes;
  }
  throw new Error(`normalizer type ${JSON.stringify(config.type)} is not known`);
}

/** Each character by itself, as Rust does: JavaScript's sigma depends on what follows. */
export function lowercase(text: string): string {
  return text.includes("Σ") ? text.replaceAll("Σ", "σ").toLowerCase() : text.toLowerCase();
}

const startSpace = /^[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;
const spaceAt = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Whether a character is white space to Unicode. */
export function isSpaceAt(text: string, place: number): boolean {
  return place >= 0 && place < text.length && spaceAt.test(text[place] as string);
}

export function stripSpace(text: string, left: boolean, right: boolean): string {
  const start = left ? (startSpace.exec(text)?.[0].length ?? 0) : 0;
  let end = text.length;
  while (right && end > start && isSpaceAt(text, end - 1)) end--;
  return text.slice(start, end);
}

function stripAccents(text: string): string {
  return text.replace(/\p{M}/gu, "");
}

function createReplace(config: JsonObject): Normalizer {
  const content = stringOf(config.content, "normalizer.content");
  const pattern = createDelimiter(config.pattern, "normalizer.pattern");
  if (typeof pattern === "string") return (text) => (pattern === "" ? text : text.replaceAll(pattern, () => content));
  return (text) => {
    let changed = "";
    let place = 0;
    for (const { start, end } of pattern.matches(text)) {
      changed += text.slice(place, start) + content;
      place = end;
    }
    return changed + text.slice(place);
  };
}

/** `{ "String": ... }` or `{ "Regex": ... }`; a plain string is one too. */
export function createDelimiter(config: unknown, what: string): string | Pattern {
  if (typeof config === "string") return config;
  const { String: literal, Regex: source } = (config ?? {}) as JsonObject;
  if (typeof literal === "string") return literal;
  if (typeof source === "string") return new Pattern(source);
  throw new Error(`${what} has neither String nor Regex`);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: those go.
const nmtControls = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;

function normalizeNmt(text: string): string {
  return text.replace(nmtControls, "").replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, " ");
}

function createBert(config: JsonObject): Normalizer {
  const {
    clean_text: clean = true,
    handle_chinese_chars: chinese = true,
    strip_accents: strip = null,
    lowercase: lower = true,
  } = config;
  return (text) => {
    let changed = text;
    if (clean === true) {
      changed = changed
        .replace(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Cn}\p{Co}]/gu, "")
        .replace(/[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/g, " ");
    }
    if (chinese === true) changed = changed.replace(chineseCharacters, " $& ");
    if (strip === true || (strip === null && lower === true))
      changed = changed.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower === true ? lowercase(changed) : changed;
  };
}

const chineseCharacters =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
