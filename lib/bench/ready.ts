import { setTimeout as sleep } from "node:timers/promises";
import { abortedError } from "../base/abort.js";
import { isError, ShardspeedError } from "../base/errors.js";
import { isObject } from "../base/objects.js";
import { describeError } from "./chunk.js";
import type { Client } from "./client.js";
import { sendRequest } from "./request.js";

const retryMs = 500;

export interface Patience {
  timeoutMs: number;
  signal: AbortSignal;
}

/** The first model that the server names. */
export async function findModel(client: Client, patience: Patience): Promise<string> {
  return retry<string>(client.address("/v1/models"), patience, async () => {
    const { status, body } = await client.call("GET", "/v1/models", undefined, patience.signal);
    if (status !== 200) return { problem: describeAnswer(status, describeError(body)), mayPass: status >= 500 };
    const models = isObject(body) && Array.isArray(body.data) ? body.data : [];
    const id: unknown = models.find(isObject)?.id;
    // A server that still loads its model may list none.
    return typeof id === "string"
      ? { value: id }
      : { problem: "it lists no model; name one by --model", mayPass: true };
  });
}

/** Sends one request until it is answered as those of the run should be. */
export async function checkReady(client: Client, endpoint: string, body: string, patience: Patience): Promise<void> {
  await retry<void>(client.address(endpoint), patience, async () => {
    const { state, reason, message } = await sendRequest(client, endpoint, body, patience);
    if (state === "completed") return { value: undefined };
    const status = Number(reason);
    const mayPass = Number.isNaN(status) ? systemCodes.has(reason ?? "") : status === 429 || status >= 500;
    return { problem: describeAnswer(reason ?? state, message), mayPass };
  });
}

/** Of servers that are not there yet, or begin again. */
const systemCodes = new Set(["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EAI_AGAIN", "ENOTFOUND"]);

type Attempt<T> = { value: T } | { problem: string; mayPass: boolean };

/** @throws ShardspeedError ERR_BENCH with the last answer where the time is over or waiting does not help. */
async function retry<T>(
  address: string,
  { timeoutMs, signal }: Patience,
  attempt: () => Promise<Attempt<T>>,
): Promise<T> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const result = await attempt().catch((error: unknown): Attempt<T> => {
      const { code } = error as NodeJS.ErrnoException;
      return { problem: isError(error) ? error.message : String(error), mayPass: systemCodes.has(code ?? "") };
    });
    if ("value" in result) return result.value;
    if (signal.aborted) throw abortedError(signal);
    if (!result.mayPass || performance.now() + retryMs > endMs) {
      throw new ShardspeedError("ERR_BENCH", `${address}: ${result.problem}`);
    }
    await sleep(retryMs, undefined, { signal }).catch(() => {
      throw abortedError(signal);
    });
  }
}

function describeAnswer(reason: string | number, message: string | undefined): string {
  return message ? `${reason}: ${message}` : `the server answered with ${reason}`;
}
