/** What Python's str takes for white space; JavaScript's \s has U+FEFF and lacks U+001C to U+001F and U+0085. */
const space = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const isSpacePattern = new RegExp(`^${space}$`);
// biome-ignore lint/suspicious/noControlCharactersInRegex: Python ends lines at some of them.
const lineEndPattern = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;
const runPattern = new RegExp(`${space}+`, "g");

export function isSpace(character: string): boolean {
  return isSpacePattern.test(character);
}

/** str.strip, lstrip and rstrip; without `drop` white space goes. */
export function strip(text: string, sides: "both" | "left" | "right", drop?: string): string {
  const dropped = drop === undefined ? undefined : new Set(drop);
  const goes = (character: string) => (dropped === undefined ? isSpace(character) : dropped.has(character));
  let start = 0;
  let end = text.length;
  while (sides !== "right" && start < end) {
    const character = String.fromCodePoint(text.codePointAt(start) as number);
    if (!goes(character)) break;
    start += character.length;
  }
  while (sides !== "left" && end > start) {
    const low = text.charCodeAt(end - 1);
    const isPair = low >= 0xdc00 && low < 0xe000 && end - 2 >= start && (text.charCodeAt(end - 2) & 0xfc00) === 0xd800;
    const character = text.slice(isPair ? end - 2 : end - 1, end);
    if (!goes(character)) break;
    end -= character.length;
  }
  return text.slice(start, end);
}

/** str.split() and rsplit() without a separator: at runs of white space. */
export function splitAtSpace(text: string, most: number, fromRight: boolean): string[] {
  const words: { start: number; end: number }[] = [];
  let start = 0;
  for (const run of text.matchAll(runPattern)) {
    if (run.index > start) words.push({ start, end: run.index });
    start = run.index + run[0].length;
  }
  if (start < text.length) words.push({ start, end: text.length });
  if (most < 0 || words.length <= most) return words.map((word) => text.slice(word.start, word.end));
  // The part that is not split keeps its inner white space, and what is at the far end of the text, but not at the near one.
  if (fromRight) {
    const kept = words.slice(words.length - most);
    const rest = text.slice(0, words[words.length - most - 1]?.end ?? 0);
    return [rest, ...kept.map((word) => text.slice(word.start, word.end))];
  }
  return [
    ...words.slice(0, most).map((word) => text.slice(word.start, word.end)),
    text.slice(words[most]?.start ?? text.length),
  ];
}

export function split(text: string, separator: string, most: number, fromRight: boolean): string[] {
  const parts = text.split(separator);
  if (most < 0 || parts.length <= most + 1) return parts;
  return fromRight
    ? [parts.slice(0, parts.length - most).join(separator), ...parts.slice(parts.length - most)]
    : [...parts.slice(0, most), parts.slice(most).join(separator)];
}

/** str.splitlines() */
export function splitLines(text: string, keepEnds: boolean): string[] {
  const lines: string[] = [];
  let start = 0;
  for (const end of text.matchAll(lineEndPattern)) {
    lines.push(text.slice(start, keepEnds ? end.index + end[0].length : end.index));
    start = end.index + end[0].length;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

/** str.title(): letters behind no letter are capitals, all others small. */
export function title(text: string): string {
  return text.replace(/\p{L}+/gu, (word) => capitalize(word));
}

/** str.capitalize() */
export function capitalize(text: string): string {
  const [first = ""] = text;
  return first.toUpperCase() + text.slice(first.length).toLowerCase();
}

/** str.find and str.rfind with places as Python counts them. */
export function find(text: string, part: string, fromRight: boolean): number {
  const place = fromRight ? text.lastIndexOf(part) : text.indexOf(part);
  return place < 0 ? -1 : Array.from(text.slice(0, place)).length;
}

export function count(text: string, part: string): number {
  return part === "" ? Array.from(text).length + 1 : text.split(part).length - 1;
}
