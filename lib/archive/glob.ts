import { readdir, stat } from "node:fs/promises";
import path from "node:path";

/** Whether `text` is a pattern: it has `*`, `?` or a pair of brackets. */
export function isGlob(text: string): boolean {
  return /[*?]|\[.*\]/.test(text);
}

/**
 * The paths that a pattern matches, sorted. `*`, `?` and `[...]` stand for characters of one name; as in a shell none of
 * them stands for the dot that a hidden name begins with.
 */
export async function expandGlob(pattern: string): Promise<string[]> {
  const parts = pattern.split("/").filter((part) => part !== "");
  let found = [pattern.startsWith("/") ? "/" : ""];
  for (const [i, part] of parts.entries()) {
    const last = i === parts.length - 1;
    const next: string[] = [];
    for (const folder of found) {
      for (const name of isGlob(part) ? await matchNames(folder, part) : [part]) {
        const candidate = path.join(folder, name);
        if (await fits(candidate, last && !pattern.endsWith("/"))) next.push(candidate);
      }
    }
    found = next;
  }
  return found.sort();
}

async function matchNames(folder: string, part: string): Promise<string[]> {
  const accepts = toRegExp(part);
  const names = await readdir(folder === "" ? "." : folder).catch(() => []);
  return names.filter((name) => accepts.test(name) && (part.startsWith(".") || !name.startsWith(".")));
}

async function fits(candidate: string, anything: boolean): Promise<boolean> {
  const stats = await stat(candidate).catch(() => undefined);
  return stats !== undefined && (anything || stats.isDirectory());
}

function toRegExp(part: string): RegExp {
  const source = part.replace(/\[(!?)(\][^\]]*|[^\]]+)\]|[\s\S]/g, (piece, not?: string, set?: string) => {
    if (piece === "*") return "[^]*";
    if (piece === "?") return "[^]";
    if (set !== undefined) return `[${not ? "^" : ""}${set.replace(/[\\\]^[]/g, "\\$&")}]`;
    return piece.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  });
  try {
    return new RegExp(`^${source}$`);
  } catch {
    // A range that runs backwards, such as [z-a], matches nothing.
    return /(?!)/;
  }
}
