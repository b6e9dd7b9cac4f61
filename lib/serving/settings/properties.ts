import { ShardspeedError } from "../../base/errors.js";
import { escapeControls, truncate } from "../../base/text.js";

/** A key of a properties file as the file has it. */
export interface Property {
  key: string;
  value: string;
  /** Of its first line, from 1. */
  line: number;
}

/** Longest text of a file, and of all values with variables in them. */
export const mostCharacters = 2 ** 20;

/**
 * Reads Java's properties as java.util.Properties.load() does: comments with # and !, lines continued by a backslash, keys that end at "=", ":" or a
 * blank, and escapes. Of a key that is there twice, the later one counts; both are in the result.
 *
 * @param file Its name, for messages.
 * @throws ShardspeedError ERR_CONFIG for more than 1 MiB, and for "\u" without four hexadecimal digits behind it.
 */
export function parseProperties(text: string, file: string): Property[] {
  if (text.length > mostCharacters) {
    throw new ShardspeedError("ERR_CONFIG", `${escapeControls(file)}: expected at most 1 MiB, found more`);
  }
  return logicalLines(text).map(({ content, line }) => {
    const [key, value] = splitEntry(content);
    const where = `${file}:${line}`;
    return { key: unescapeText(key, where), value: unescapeText(value, where), line };
  });
}

interface LogicalLine {
  content: string;
  line: number;
}

/** Lines without comments and blank ones, each joined with those that continue it. */
function logicalLines(text: string): LogicalLine[] {
  const found: LogicalLine[] = [];
  let parts: string[] | undefined;
  let start = 0;
  const end = () => {
    if (parts !== undefined) found.push({ content: parts.join(""), line: start });
    parts = undefined;
  };
  for (const [i, natural] of text.split(/\r\n|\r|\n/).entries()) {
    // Blanks: space, tab and form feed, at the beginning of a continuing line too.
    const content = natural.replace(/^[ \t\f]+/, "");
    if (parts === undefined) {
      if (content === "" || content.startsWith("#") || content.startsWith("!")) continue;
      parts = [];
      start = i + 1;
    }
    const continues = /(?:^|[^\\])(?:\\\\)*\\$/.test(content);
    parts.push(continues ? content.slice(0, -1) : content);
    if (!continues) end();
  }
  end();
  return found;
}

/** At the first blank, "=" or ":" that no backslash stands before. One "=" or ":" may stand among blanks. */
function splitEntry(content: string): [key: string, value: string] {
  let at = 0;
  while (at < content.length && !/[=: \t\f]/.test(content[at] as string)) at += content[at] === "\\" ? 2 : 1;
  const rest = content.slice(at).replace(/^[ \t\f]+/, "");
  return [content.slice(0, at), rest.replace(/^[=:][ \t\f]*/, "")];
}

const letters: Readonly<Record<string, string>> = { t: "\t", n: "\n", r: "\r", f: "\f" };

function unescapeText(text: string, where: string): string {
  return text.replace(/\\(u[\da-fA-F]{4}|.?)/gs, (_, escaped: string) => {
    if (escaped.length === 5) return String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    if (escaped === "u") {
      const shown = truncate(escapeControls(text));
      throw new ShardspeedError(
        "ERR_CONFIG",
        `${escapeControls(where)}: expected four hexadecimal digits behind \\u, found ${shown}`,
      );
    }
    return letters[escaped] ?? escaped;
  });
}

/** As TorchServe's pattern: names of at least two characters. */
const variable = /\$\$([^$]+[^$])\$\$/g;

/**
 * Puts environment variables in place of `$$NAME$$` in values.
 *
 * @throws ShardspeedError ERR_CONFIG for a variable that is not set, and for more than 1 MiB of values.
 */
export function interpolate(properties: readonly Property[], environment: NodeJS.ProcessEnv, file: string): Property[] {
  let characters = 0;
  const count = (length: number, where: string) => {
    characters += length;
    if (characters <= mostCharacters) return;
    throw new ShardspeedError("ERR_CONFIG", `${where}: the variables in values are longer than 1 MiB`);
  };
  return properties.map(({ key, value, line }) => {
    const where = `${escapeControls(file)}:${line}`;
    const replaced = value.replace(variable, (_, name: string) => {
      const found = environment[name];
      if (found === undefined) {
        const shown = truncate(escapeControls(name));
        throw new ShardspeedError("ERR_CONFIG", `${where}: the environment variable ${shown} is not set`);
      }
      count(found.length, where);
      return found;
    });
    return { key, value: replaced, line };
  });
}
