import { truncate } from "../base/text.js";

/**
 * Why a name may not stand in an archive, as packed by us or by others; undefined where it may. What it refuses leads
 * out of the folder that an archive is unpacked to, on this system or another.
 */
export function whyBadEntryName(name: string): string | undefined {
  if (name === "") return "has no name";
  if (name.includes("\0")) return "holds a null character";
  if (name.includes("\\")) return "holds a backslash, which separates folders on Windows";
  if (name.startsWith("/")) return "is an absolute path";
  if (/^[A-Za-z]:/.test(name)) return "begins with the letter of a drive";
  if (name.split("/").includes("..")) return 'leads to another folder by ".."';
  return undefined;
}

/** The parts of a good name: without "." and empty ones, as in "./a//b". */
export function splitEntryName(name: string): string[] {
  return name.split("/").filter((part) => part !== "" && part !== ".");
}

/** The name of an entry for messages. */
export function showName(name: string): string {
  return JSON.stringify(truncate(name, 200));
}
