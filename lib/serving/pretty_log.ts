import { isObject } from "../base/objects.js";
import { escapeControls } from "../base/text.js";

/** A line of JSON from the log as people read it: "14:05:09.120 WARN  message key=value". */
export function toPrettyLine(line: string): string {
  const { time, level, msg, err, ...rest } = readLine(line);
  const clock = /T([\d:.]+)Z$/.exec(String(time))?.[1] ?? "";
  const { method, route, status, ms, ...others } = rest;
  const isRequest = msg === "request" && method !== undefined;
  const text = isRequest ? `${method} ${route} ${status} ${ms} ms` : String(msg ?? "");
  const pairs = Object.entries(isRequest ? others : rest).map(([key, value]) => ` ${key}=${showField(value)}`);
  const head = `${clock} ${String(level ?? "")
    .toUpperCase()
    .padEnd(5)} ${text}${pairs.join("")}`;
  // A message of ours may have several lines; what a client sent has none.
  const stack = isObject(err) && typeof err.stack === "string" ? `\n${err.stack}` : "";
  return `${(head + stack).split("\n").map(escapeControls).join("\n")}\n`;
}

function readLine(line: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(line);
    if (isObject(parsed)) return parsed;
  } catch {
    // Written as it is.
  }
  return { msg: line.trimEnd() };
}

function showField(value: unknown): string {
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? value : (JSON.stringify(value) ?? "");
}
