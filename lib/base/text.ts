/** Text of at most `most` characters, for messages: what is longer ends with three dots. */
export function truncate(text: string, most = 80): string {
  return text.length > most ? `${text.slice(0, most - 3)}...` : text;
}

/** A value as a message shows it: on one line, of at most 80 characters. Never throws. */
export function showValue(found: unknown): string {
  let shown: string;
  try {
    // JSON knows neither NaN nor infinity, nor bigints.
    if (typeof found === "number") shown = String(found);
    else if (isNested(found)) shown = Array.isArray(found) ? "[...]" : "{...}";
    else shown = typeof found === "bigint" ? `${found}n` : (JSON.stringify(found) ?? String(found));
  } catch {
    shown = Object.prototype.toString.call(found);
  }
  return truncate(shown);
}

/** Deeper than people read, and than the stack may go: messages then show no more than the kind. */
function isNested(value: unknown, levels = 8): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((item) => isNested(item, levels - 1));
}

/** `maxNewTokens` as `max_new_tokens`. */
export function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Text from a file, or a file's name, as it may stand in a message, which should not move a terminal's cursor. */
export function escapeControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

const byteUnits: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

/** A number of bytes, with a unit or without: 1000000, 512MB, 2GiB. NaN for other text. */
export function readByteCount(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?$/i.exec(text.trim());
  return match === null
    ? Number.NaN
    : Math.floor(Number(match[1]) * (byteUnits[(match[2] ?? "").toLowerCase()] as number));
}
