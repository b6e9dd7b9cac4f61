import { onAbort, throwIfAborted } from "../base/abort.js";
import type { NativeRequest, Pooling } from "../native/binding.js";
import { neutralSampling } from "./generation_options.js";
import type { Session } from "./session.js";
import { noLimits } from "./token_limits.js";

/** Of a request for new tokens. */
export const noOutputs = { wanted: "tokens", tokenTypes: null, poolings: [], poolFrom: 0, beams: null } as const;

/** A sequence whose outputs are wanted. */
export interface OutputRequest {
  tokens: readonly number[];
  tokenTypes?: readonly number[] | undefined;
  wanted: Exclude<NativeRequest["wanted"], "tokens">;
  /** Default: none. */
  poolings?: readonly Pooling[];
  poolFrom?: number;
}

export interface Outputs {
  /** What the head makes: of each token, or of the one that it picks. */
  head: Float32Array;
  /** (tokens, hidden), or (poolings, hidden) where they are pooled. */
  hidden: Float32Array;
}

/** Computes outputs of sequences, each by itself; no token is chosen. Where one fails, or the signal aborts, the others leave the engine too. */
export async function computeOutputs(
  session: Session,
  requests: readonly OutputRequest[],
  signal?: AbortSignal,
): Promise<Outputs[]> {
  throwIfAborted(signal);
  const ids: number[] = [];
  const work = Promise.all(requests.map((request) => submit(session, request, ids)));
  let stopListening = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stopListening = onAbort(signal, reject);
  });
  try {
    return await Promise.race([work, aborted]);
  } catch (error) {
    for (const id of ids) session.cancel(id);
    throw error;
  } finally {
    stopListening();
  }
}

function submit(session: Session, request: OutputRequest, ids: number[]): Promise<Outputs> {
  const { tokens, tokenTypes, wanted, poolings = [], poolFrom = 0 } = request;
  return new Promise((resolve, reject) => {
    const id = session.submit(
      {
        ...{ tokens: Int32Array.from(tokens), maxNewTokens: 0, ...neutralSampling, seedLow: 0, seedHigh: 0 },
        ...{ stopTokens: new Int32Array(0), logprobs: -1, promptLogprobs: -1, speculates: false, cacheSalt: "" },
        ...{ wanted, poolings, poolFrom, beams: null },
        ...noLimits,
        tokenTypes: tokenTypes === undefined ? null : Int32Array.from(tokenTypes),
      },
      {
        onOutputs: (head, hidden) => resolve({ head, hidden }),
        onFailure: reject,
        onToken() {},
        onDone() {},
      },
    );
    ids.push(id);
  });
}
