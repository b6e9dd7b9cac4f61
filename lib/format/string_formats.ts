import type { Node } from "./nodes.js";
import { parsePattern } from "./pattern.js";

const date =
  "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))";
const time = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const byte = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
const label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";

const group = "[0-9A-Fa-f]{1,4}";
/** With all eight groups, or with :: for some of them. */
const ipv6 = [
  `(${group}:){7}${group}`,
  "::",
  `::(${group}:){0,6}${group}`,
  ...[1, 2, 3, 4, 5, 6].map((before) => `(${group}:){${before}}:(${group}:){0,${6 - before}}${group}`),
  `(${group}:){1,7}:`,
].join("|");
const count = "[0-9]{1,6}";
const dayTime = `T(${count}H(${count}M(${count}S)?)?|${count}M(${count}S)?|${count}S)`;
const duration = `P(${count}W|(${count}Y(${count}M(${count}D)?)?|${count}M(${count}D)?|${count}D)(${dayTime})?|${dayTime})`;
const uriCharacters = "[A-Za-z0-9._~!$&'()*+,;=:@-]";
const uri = `https?://${label}(\\.${label}){0,4}(:[1-9][0-9]{0,3})?(/${uriCharacters}*)*(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?`;

/** Each matches valid texts only, and perhaps not all of them: no 29 February, no leap seconds, no quoted local parts of an address, no addresses of other schemes than http. */
const patterns: Readonly<Record<string, string>> = {
  "date-time": `${date}T${time}`,
  date,
  time,
  uuid: "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
  ipv4: `${byte}(\\.${byte}){3}`,
  hostname: `${label}(\\.${label}){0,2}`,
  ipv6,
  duration,
  uri,
  email: `[A-Za-z0-9_+-]{1,30}(\\.[A-Za-z0-9_+-]{1,30})?@${label}(\\.${label}){1,2}`,
  // They say how a text is shown or used, and restrict nothing.
  password: "[^]*",
  path: "[^]*",
};

/** The text of a string of such a format; undefined for others. */
export function formatNode(format: string): Node | undefined {
  const pattern = Object.hasOwn(patterns, format) ? patterns[format] : undefined;
  return pattern === undefined ? undefined : parsePattern(pattern, format, false);
}

export const knownFormats: readonly string[] = Object.keys(patterns);
