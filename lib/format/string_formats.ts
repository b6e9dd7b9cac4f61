import type { Node } from "./nodes.js";
import { parsePattern } from "./pattern.js";

const date =
  "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
const time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";

/** Each matches valid texts only, and perhaps not all of them: no 29 February, no leap seconds, no quoted local parts of an address. */
const patterns: Readonly<Record<string, string>> = {
  "date-time": `${date}T${time}`,
  date,
  time,
  uuid: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
  ipv4: `${byte}(\\.${byte}){3}`,
  hostname: `${label}(\\.${label}){0,2}`,
  email: `[A-Za-z0-9_+-]{1,30}(\\.[A-Za-z0-9_+-]{1,30})?@${label}(\\.${label}){1,2}`,
};

/** The text of a string of such a format; undefined for others. */
export function formatNode(format: string): Node | undefined {
  const pattern = Object.hasOwn(patterns, format) ? patterns[format] : undefined;
  return pattern === undefined ? undefined : parsePattern(pattern, format, false);
}

export const knownFormats: readonly string[] = Object.keys(patterns);
