import { Worker } from "node:worker_threads";
import { nativeError, ShardspeedError } from "../base/errors.js";
import { compileFormat } from "./compile.js";
import type { Outcome } from "./thread.js";
import { TooMuchWork, upTo } from "./work.js";

/** Formats of so many characters are compiled at once, unless they need more work than a few milliseconds. */
const shortFormat = 4096;
const shortWork = 100_000;
const mostMs = 2000;
/** Of the thread's heap. */
const mostMegabytes = 512;

/** One at a time: each takes a thread. */
let last: Promise<unknown> = Promise.resolve();

/**
 * compileFormat(), away from the event loop where the format is long.
 *
 * @throws ShardspeedError ERR_INVALID_ARGUMENT for what is not supported, and for what takes more than two seconds.
 */
export async function compileAside(text: string): Promise<Int32Array> {
  if (text.length <= shortFormat) {
    try {
      return compileFormat(text, upTo(shortWork));
    } catch (error) {
      if (!(error instanceof TooMuchWork)) throw error;
    }
  }
  const mine = last.then(() => compileInThread(text));
  last = mine.catch(() => {});
  return mine;
}

async function compileInThread(text: string): Promise<Int32Array> {
  const worker = new Worker(new URL("./thread.js", import.meta.url), {
    workerData: text,
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: mostMegabytes },
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<Int32Array>((resolve, reject) => {
      const refuse = (why: string) =>
        reject(new ShardspeedError("ERR_INVALID_ARGUMENT", `The format takes too much to compile: ${why}`));
      worker.once("online", () => {
        timer = setTimeout(() => refuse(`more than ${mostMs / 1000} seconds`), mostMs);
      });
      worker.once("message", (outcome: Outcome) => {
        if ("nodes" in outcome) resolve(outcome.nodes);
        else reject(nativeError(outcome));
      });
      worker.once("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ERR_WORKER_OUT_OF_MEMORY") refuse(`more than ${mostMegabytes} MB`);
        else reject(nativeError(error, error));
      });
      worker.once("exit", () => reject(new ShardspeedError("ERR_NATIVE", "The thread that compiles a format ended.")));
    });
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
