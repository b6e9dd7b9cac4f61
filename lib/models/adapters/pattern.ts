/** More of them would make a match take long: each tries every place in a name. */
const mostRepeats = 3;
const mostCharacters = 500;

/**
 * The key of rank_pattern or alpha_pattern that PEFT takes for a module: the first that is its name, or the end of it behind a dot, as a
 * regular expression (get_pattern_key in peft/utils/other.py).
 */
export function findPattern(patterns: readonly string[], module: string): string | undefined {
  return patterns.find((pattern) => new RegExp(`^(?:.*\\.)?(?:${pattern})$`, "u").test(module));
}

/** Why a pattern of a stranger is not run; undefined for one that cannot take long and means the same to Python and JavaScript. */
export function refusePattern(pattern: string): string | undefined {
  if (pattern.length > mostCharacters)
    return `it has ${pattern.length} characters, and at most ${mostCharacters} are read`;
  if (!/^[\w.^$*+?|()[\]\\{},:-]*$/.test(pattern)) return "it has characters that names of modules do not have";
  if (/\\[^dw.]/.test(pattern) || /\(\?(?!:)/.test(pattern)) return "it has regular expressions that are not read";
  const repeats = pattern.match(/(?<!\\)[*+]|\{\d*,\d*\}/g) ?? [];
  if (repeats.length > mostRepeats) return `it repeats something in more than ${mostRepeats} places`;
  if (/\)[*+{]/.test(pattern)) return "it repeats a group";
  try {
    new RegExp(pattern, "u");
  } catch {
    return "it is no regular expression";
  }
  return undefined;
}
