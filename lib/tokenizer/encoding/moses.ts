import { letter, letterOrDigit, lowercase, number, space } from "./moses_characters.js";

/**
 * English abbreviations whose full stop belongs to them, beside the letters A to Z; from the prefixes of Moses' tokenizer, as sacremoses (MIT)
 * has them.
 */
const abbreviations = new Set([
  ...(
    "Adj Adm Adv Asst Bart Bldg Brig Bros Capt Cmdr Col Comdr Con Corp Cpl DR Dr Drs Ens Gen Gov Hon Hr Hosp Insp Lt MM MR MRS MS Maj " +
    "Messrs Mlle Mme Mr Mrs Ms Msgr Op Ord Pfc Ph Prof Pvt Rep Reps Res Rev Rt Sen Sens Sfc Sgt Sr St Supt Surg v vs i.e rev e.g Rs Nos Nr " +
    "Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec"
  ).split(" "),
]);
/** Those that are abbreviations ahead of numbers only. */
const abbreviationsOfNumbers = new Set(["No", "Art", "pp"]);

const expression = (source: string, flags = "g") => new RegExp(source, `v${flags}`);
const spaces = expression(`[${space}]+`);
/** The control characters that are no white space. */
const junk = expression("[\\x00-\\x08\\x0e-\\x1b]");
const anyLetter = expression(`[${letter}]`, "");
const anyLowercase = expression(`[${lowercase}]`, "");

type Rule = readonly [pattern: RegExp, content: string];

/** Split off what is neither letter nor digit, and dashes within words. */
const marks: readonly Rule[] = [
  [expression(`([^${letterOrDigit}${space}.'\`,\\-])`), " $1 "],
  [expression(`([${letterOrDigit}])-(?=[${letterOrDigit}])`), "$1 @-@ "],
];
/** Split off commas that are not within numbers, then apostrophes. */
const commasAndApostrophes: readonly Rule[] = [
  [expression(`([^${number}]),`), "$1 , "],
  [expression(`,([^${number}])`), " , $1"],
  [expression(`([${number}]),$`), "$1 , "],
  [expression(`([^${letter}])'([^${letter}])`), "$1 ' $2"],
  [expression(`([^${letter}${number}])'([${letter}])`), "$1 ' $2"],
  [expression(`([${letter}])'([^${letter}])`), "$1 ' $2"],
  [expression(`([${letter}])'([${letter}])`), "$1 '$2"],
  [expression(`([${number}])'(s)`), "$1 '$2"],
];

/** Several dots are one word: what stands for them has none that the rules of full stops see. */
function hideDots(text: string): string {
  return text.replace(/\.{2,}/g, (dots, place: number) => {
    const isLast = place + dots.length === text.length;
    return ` ${"DOT".repeat(dots.length)}MULTI${isLast ? "" : " "}`;
  });
}

const apply = (text: string, rules: readonly Rule[]) =>
  rules.reduce((changed, [pattern, content]) => changed.replace(pattern, content), text);

/** Without the lookbehind, a long run of DOT would be gone over from each of its places. */
const hiddenDots = /(?<!DOT)(?:DOT)+MULTI/g;

const escapes: Readonly<Record<string, string>> = {
  ...{
    "&": "&amp;",
    "|": "&#124;",
    "<": "&lt;",
    ">": "&gt;",
    "'": "&apos;",
    '"': "&quot;",
    "[": "&#91;",
    "]": "&#93;",
  },
};

/** The words of an English text as sacremoses' MosesTokenizer splits it for BioGPT: with dashes split off and characters of XML escaped. */
export function splitByMoses(text: string): string[] {
  let changed = trim(text.replace(spaces, " ").replace(junk, ""));
  changed = apply(hideDots(apply(changed, marks)), commasAndApostrophes);
  changed = trim(splitFullStops(toWords(changed)).join(" ").replace(spaces, " "));
  changed = changed
    .replace(/\.' ?$/, " . ' ")
    .replace(hiddenDots, (found) => ".".repeat((found.length - "MULTI".length) / "DOT".length))
    .replace(/[&|<>'"[\]]/g, (found) => escapes[found] as string);
  return toWords(changed);
}

/** After the first step there is no other white space. */
const toWords = (text: string) => text.split(" ").filter((word) => word !== "");
const trim = (text: string) => text.replace(/^ +/, "").replace(/(?<! ) +$/, "");

/** A full stop at the end of a word is one of its own, unless the word seems to be an abbreviation or the sentence goes on. */
function splitFullStops(words: readonly string[]): string[] {
  return words.map((word, i) => {
    if (!word.endsWith(".") || word.length === 1) return word;
    const prefix = word.slice(0, -1);
    const next = words[i + 1];
    const isAbbreviation =
      (prefix.includes(".") && anyLetter.test(prefix)) || /^[A-Z]$/.test(prefix) || abbreviations.has(prefix);
    const goesOn = next !== undefined && anyLowercase.test(String.fromCodePoint(next.codePointAt(0) as number));
    const isNumbered = abbreviationsOfNumbers.has(prefix) && next !== undefined && /^[0-9]/.test(next);
    return isAbbreviation || goesOn || isNumbered ? word : `${prefix} .`;
  });
}
