import { ShardspeedError } from "./errors.js";

/** ERR_ABORTED, with the signal's reason as its cause. */
export function abortedError(signal: AbortSignal, what = "The work"): ShardspeedError {
  return new ShardspeedError("ERR_ABORTED", `${what} was cancelled by its signal.`, { cause: signal.reason });
}

/** @throws ShardspeedError ERR_ABORTED where the signal has been given already. */
export function throwIfAborted(signal: AbortSignal | undefined, what?: string): void {
  if (signal?.aborted) throw abortedError(signal, what);
}

/** How long work that a signal has ended may take to close its files. */
const closingMs = 100;

/**
 * The result of `work`, or ERR_ABORTED when the signal is given: for work that itself cannot be ended. Work that ends within closingMs of the
 * signal is waited for, so that no file stays open; a network's file system that does not answer is not.
 */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined, what?: string): Promise<T> {
  if (signal === undefined) return work;
  const ended = work.then(
    () => {},
    () => {},
  );
  let stop = () => {};
  let timer: NodeJS.Timeout | undefined;
  const aborted = new Promise<never>((_, reject) => {
    const abort = (error: ShardspeedError) => {
      timer = setTimeout(() => reject(error), closingMs);
      ended.then(() => reject(error));
    };
    stop = onAbort(signal, abort, what);
  });
  try {
    const result = await Promise.race([aborted, work]);
    throwIfAborted(signal, what);
    return result;
  } catch (error) {
    throwIfAborted(signal, what);
    throw error;
  } finally {
    stop();
    clearTimeout(timer);
  }
}

/** What follows a signal. */
interface Following {
  callbacks: Set<() => void>;
  /** Ends the listening. */
  stop(): void;
}

const followed = new WeakMap<AbortSignal, Following>();

/** What it throws ends the process, as it would from a listener of its own, but only after the other callbacks. */
function callApart(call: () => void): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

function follow(signal: AbortSignal): Following {
  const callbacks = new Set<() => void>();
  const listener = () => {
    for (const call of callbacks) callApart(call);
  };
  signal.addEventListener("abort", listener, { once: true });
  const following = {
    callbacks,
    stop: () => {
      followed.delete(signal);
      signal.removeEventListener("abort", listener);
    },
  };
  followed.set(signal, following);
  return following;
}

/**
 * Calls back when the signal is given, at once where it has been given already. All that follow a signal share one listener: Node warns of a signal
 * with many, and a signal of its own for each (AbortSignal.any) costs more than all else here, and stays until the next full garbage collection.
 *
 * @returns Ends the listening: a signal may outlive the work by far.
 */
export function onAbort(
  signal: AbortSignal | undefined,
  callback: (error: ShardspeedError) => void,
  what?: string,
): () => void {
  if (signal === undefined) return () => {};
  const call = () => callback(abortedError(signal, what));
  if (signal.aborted) {
    call();
    return () => {};
  }
  const { callbacks, stop } = followed.get(signal) ?? follow(signal);
  callbacks.add(call);
  return () => {
    if (callbacks.delete(call) && callbacks.size === 0) stop();
  };
}
