import { ShardspeedError } from "./errors.js";

/** ERR_ABORTED, with the signal's reason as its cause. */
export function abortedError(signal: AbortSignal, what = "The work"): ShardspeedError {
  return new ShardspeedError("ERR_ABORTED", `${what} was cancelled by its signal.`, { cause: signal.reason });
}

/** @throws ShardspeedError ERR_ABORTED where the signal has been given already. */
export function throwIfAborted(signal: AbortSignal | undefined, what?: string): void {
  if (signal?.aborted) throw abortedError(signal, what);
}

/**
 * What `work` comes to, or ERR_ABORTED as soon as the signal is given: for work that itself cannot be ended, such as a read from a network's
 * file system that does not answer.
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined, what?: string): Promise<T> {
  if (signal === undefined) return work;
  work.catch(() => {}); // nobody waits for it after the signal
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = onAbort(signal, reject, what);
  });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    stop();
  }
}

/**
 * Calls back when the signal is given, at once where it has been given already.
 *
 * @returns Ends the listening: a signal may outlive the work by far.
 */
export function onAbort(
  signal: AbortSignal | undefined,
  callback: (error: ShardspeedError) => void,
  what?: string,
): () => void {
  if (signal === undefined) return () => {};
  const listener = () => callback(abortedError(signal, what));
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
  return () => signal.removeEventListener("abort", listener);
}
