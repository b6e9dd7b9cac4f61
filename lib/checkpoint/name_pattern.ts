import { invalidArgument } from "../base/errors.js";

/** Takes any run of characters, none too; or one character that it accepts. */
type Part = "any" | ((character: string) => boolean);

/**
 * A test for file names, by a pattern of the shell: `*`, `?`, `[ab]`, `[a-z]`, `[!a]`. As in Python's fnmatch a name's leading dot needs
 * no dot in the pattern, and upper and lower case differ.
 *
 * Not a RegExp: those take time without bounds for patterns such as `*a*a*a*b`.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for an empty pattern, and for one with a folder in it.
 */
export function namePattern(pattern: string): (name: string) => boolean {
  if (pattern === "" || pattern.includes("/")) {
    throw invalidArgument("a pattern", 'a pattern of file names, without a folder, such as "*.pt"', pattern);
  }
  const parts = parse([...pattern]);
  return (name) => matches(parts, [...name]);
}

function parse(characters: readonly string[]): Part[] {
  const parts: Part[] = [];
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i] as string;
    if (character === "*") parts.push("any");
    else if (character === "?") parts.push(() => true);
    else if (character === "[" && classEnd(characters, i) > i) {
      const end = classEnd(characters, i);
      parts.push(characterClass(characters.slice(i + 1, end)));
      i = end;
    } else parts.push((found) => found === character);
  }
  return parts;
}

/** Where the class that begins at `start` ends: a `]` right at its beginning belongs to it. -1: nowhere, so the bracket is itself. */
function classEnd(characters: readonly string[], start: number): number {
  const first = characters[start + 1] === "!" ? start + 2 : start + 1;
  return characters.indexOf("]", first + 1);
}

function characterClass(inside: readonly string[]): (character: string) => boolean {
  const negated = inside[0] === "!";
  const members = negated ? inside.slice(1) : inside;
  const ranges: [string, string][] = [];
  for (let i = 0; i < members.length; i++) {
    const from = members[i] as string;
    const isRange = members[i + 1] === "-" && i + 2 < members.length;
    ranges.push([from, isRange ? (members[i + 2] as string) : from]);
    if (isRange) i += 2;
  }
  const point = (character: string) => character.codePointAt(0) as number;
  return (character) =>
    negated !== ranges.some(([from, to]) => point(from) <= point(character) && point(character) <= point(to));
}

/** Goes back to the last `*` alone: giving an earlier one more characters could not help. */
function matches(parts: readonly Part[], name: readonly string[]): boolean {
  let part = 0;
  let position = 0;
  let star = -1;
  let starPosition = 0;
  while (position < name.length) {
    const expected = parts[part];
    if (expected === "any") {
      star = part++;
      starPosition = position;
    } else if (expected?.(name[position] as string)) {
      part++;
      position++;
    } else if (star >= 0) {
      part = star + 1;
      position = ++starPosition;
    } else return false;
  }
  while (parts[part] === "any") part++;
  return part === parts.length;
}
