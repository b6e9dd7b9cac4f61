import type { FastifyRequest } from "fastify";
import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";
import { keyNameOf } from "./http/auth.js";
import type { RequestEnd } from "./http/request_end.js";
import { readTraceParent } from "./http/request_id.js";
import { LogOutput } from "./log_output.js";
import { toPrettyLine } from "./pretty_log.js";

export interface LogOptions {
  level: "debug" | "info" | "warn" | "error" | "silent";
  /** undefined: lines for people on a terminal, else JSON. */
  format?: "json" | "pretty" | undefined;
  /** Default: the standard output. */
  stream?: DestinationStream;
}

/** The server's log: one line for each message. It fits everywhere in this package where a Logger is asked for. */
export function createLog({ level, format, stream }: LogOptions): PinoLogger {
  const output = stream ?? openStandardOutput();
  const isPretty = format === undefined ? stream === undefined && process.stdout.isTTY === true : format === "pretty";
  const lines = isPretty ? { write: (line: string) => output.write(toPrettyLine(line)) } : output;
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: toLevelName } },
    lines,
  );
}

let standardOutput: LogOutput | undefined;

/** The standard output, which all logs of a process share. */
function openStandardOutput(): LogOutput {
  if (standardOutput === undefined) {
    const output = new LogOutput(1);
    process.on("exit", () => output.flush());
    standardOutput = output;
  }
  return standardOutput;
}

/** Names in place of pino's numbers. */
function toLevelName(label: string): { level: string } {
  return { level: label };
}

/** What a route adds to the line of its request. Never a prompt, an answer or a key. */
export interface AccessNotes {
  model?: string;
  version?: string;
  promptTokens?: number;
  newTokens?: number;
  /** How long it waited for a worker. */
  queueMs?: number;
  /** Why a stream whose status was sent ended: a code. */
  error?: string;
}

const notesOfRequests = new WeakMap<object, AccessNotes>();

/** Adds to the line of a request. */
export function noteAccess(request: FastifyRequest, notes: AccessNotes): void {
  notesOfRequests.set(request.raw, { ...notesOfRequests.get(request.raw), ...notes });
}

/** Groups of routes that --no-access-log-for names by a word. */
const routeGroups: Readonly<Record<string, readonly string[]>> = {
  health: ["/ping", "/ready", "/health", "/live", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"],
  metrics: ["/metrics"],
};

/**
 * Writes a line for each request that has ended.
 *
 * @param skipped Routes without lines, or names of groups: "health", "metrics".
 */
export function accessLog(
  log: Pick<PinoLogger, "info">,
  skipped: readonly string[],
): (end: RequestEnd, request: FastifyRequest) => void {
  const silent = new Set(skipped.flatMap((name) => routeGroups[name] ?? [name]));
  return ({ route, method, code, seconds, isAborted }, request) => {
    if (silent.has(route)) return;
    const traceParent = readTraceParent(request.headers);
    const key = keyNameOf(request);
    const entry = {
      method,
      route,
      status: code,
      ms: Math.round(seconds * 1e6) / 1000,
      requestId: request.id,
      ...(key === undefined ? {} : { key }),
      ...(traceParent === undefined ? {} : { traceparent: traceParent }),
      ...(isAborted ? { aborted: true } : {}),
      ...notesOfRequests.get(request.raw),
    };
    log.info(entry, "request");
  };
}
