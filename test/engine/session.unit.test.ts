import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { runSequence, toNativeRequest } from "../../dist/engine/generation.js";
import { type ResolvedGenerationOptions, resolveGenerationOptions } from "../../dist/engine/generation_options.js";
import { computeOutputs } from "../../dist/engine/outputs.js";
import { type SequenceRequest, Session } from "../../dist/engine/session.js";
import type { EngineEvent, EnginePlan, NativeBinding, NativeRequest } from "../../dist/native/binding.js";
import type { Tokenizer } from "../../dist/tokenizer/index.js";
import { fakeBinding } from "../support/fake_binding.js";
import { hasCode } from "../support/fixtures.js";

// A session, its requests and the loop over a sequence by themselves: the native engine is a list of what it was asked.

interface Native {
  session: Session;
  submitted: NativeRequest[];
  cancelled: number[];
  emit(...events: EngineEvent[]): void;
}

function startSession(firstRank = 0): Native {
  const submitted: NativeRequest[] = [];
  const cancelled: number[] = [];
  let emit: Native["emit"] = () => {};
  const binding: NativeBinding = {
    ...fakeBinding().binding,
    createEngine: (_, onEvents) => {
      emit = (...events) => onEvents(events);
      return {
        submit: (request) => void submitted.push(request),
        cancel: (id) => void cancelled.push(id),
        stats: () => {
          throw new Error("nobody asks");
        },
        close: async () => {},
      };
    },
  };
  const session = new Session(binding, { firstRank } as EnginePlan, () => {});
  return { session, submitted, cancelled, emit: (...events) => emit(...events) };
}

/** A listener that keeps what it is told. */
function recorder() {
  const told: string[] = [];
  return {
    told,
    onToken: ({ token }: { token: number }) => void told.push(`token ${token}`),
    onDone: (reason: string) => void told.push(`done ${reason}`),
    onOutputs: (head: Float32Array, hidden: Float32Array) => void told.push(`outputs ${head.length} ${hidden.length}`),
    onFailure: ({ code }: { code: string }) => void told.push(code),
  };
}

const options = (given: object = {}) => resolveGenerationOptions({ seed: 1, ...given });
const request = () => toNativeRequest([1], 1, options());
const toRun = (session: Session, request: SequenceRequest, options: ResolvedGenerationOptions) => ({
  ...{ session, request, options, tokenizer: undefined },
});
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

test("a request has the options, and all bits of the seed in two halves", () => {
  const given = { seed: 0x8123_4567_89ab_cdefn, temperature: 0.5, topK: 3, stopTokenIds: [9], logprobs: 2 };
  const native = toNativeRequest([1, 2], 7, options(given));
  assert.deepEqual([native.seedLow, native.seedHigh], [0x89ab_cdef, 0x8123_4567]);
  assert.deepEqual([...native.tokens], [1, 2]);
  assert.deepEqual([...native.stopTokens], [9]);
  assert.deepEqual([native.maxNewTokens, native.temperature, native.topK, native.logprobs], [7, 0.5, 3, 2]);
  assert.equal(native.wanted, "tokens");
  const plain = toNativeRequest([1], 1, options({ seed: 5 }));
  assert.deepEqual([plain.seedLow, plain.seedHigh, plain.logprobs], [5, 0, -1]);
});

test("each request is told of its own events, and of none after its end", () => {
  const { session, submitted, emit } = startSession();
  const [first, second, third] = [recorder(), recorder(), recorder()];
  const ids = [first, second, third].map((listener) => session.submit(request(), listener));
  assert.deepEqual(
    submitted.map(({ id }) => id),
    ids,
  );
  assert.equal(new Set(ids).size, 3);
  const [one, two, three] = ids as [number, number, number];
  emit({ kind: "token", id: one, token: 4 }, { kind: "token", id: two, token: 5 });
  emit({ kind: "done", id: one, reason: "stop" }, { kind: "token", id: one, token: 6 });
  emit({ kind: "rejected", id: two, code: "ERR_NUMERIC", message: "NaN" }, { kind: "done", id: two, reason: "stop" });
  emit(
    { kind: "outputs", id: three, outputs: new Float32Array(2), hidden: new Float32Array(3) },
    { kind: "done", id: three, reason: "length" },
  );
  assert.deepEqual(first.told, ["token 4", "done stop"]);
  assert.deepEqual(second.told, ["token 5", "ERR_NUMERIC"]);
  assert.deepEqual(third.told, ["outputs 2 3"]);
});

test("a request that was cancelled is told nothing, and cancelled once", () => {
  const { session, cancelled, emit } = startSession();
  const listener = recorder();
  const id = session.submit(request(), listener);
  session.cancel(id);
  session.cancel(id);
  emit({ kind: "token", id, token: 1 }, { kind: "done", id, reason: "cancelled" });
  assert.deepEqual(cancelled, [id]);
  assert.deepEqual(listener.told, []);
});

test("a failure is told once, then nothing is taken or asked any more", async () => {
  const { session, submitted, cancelled, emit } = startSession();
  const listener = recorder();
  const id = session.submit(request(), listener);
  const fault = { kind: "failed", code: "ERR_CUDA", message: "lost" } as const;
  emit({ kind: "ready", loadMs: 1, overflows: [] }, fault, fault, { kind: "token", id, token: 1 });
  assert.deepEqual(listener.told, ["ERR_CUDA"]);
  await session.close();
  assert.deepEqual(listener.told, ["ERR_CUDA"]);
  assert.throws(() => session.submit(request(), recorder()), hasCode("ERR_DISPOSED", /lost/));
  session.cancel(id);
  assert.deepEqual([submitted.length, cancelled], [1, []]);
  await assert.rejects(session.finished, hasCode("ERR_CUDA"));
});

test("a load that fails, and one that is given up, reject", async () => {
  const failed = startSession();
  failed.emit({ kind: "failed", code: "ERR_CHECKPOINT", message: "short" });
  await assert.rejects(failed.session.ready, hasCode("ERR_CHECKPOINT"));
  const closed = startSession();
  await closed.session.close();
  await assert.rejects(closed.session.ready, hasCode("ERR_DISPOSED"));
  await closed.session.finished;
  // Rank 0 ended before this rank was ready: no failure of its own, but no engine either.
  const follower = startSession(1);
  follower.emit({ kind: "ended" });
  await assert.rejects(follower.session.ready, hasCode("ERR_COMM"));
});

test("a loop that is left, or whose signal aborts, cancels its sequence", async () => {
  const { session, cancelled, submitted, emit } = startSession();
  const left = runSequence(toRun(session, toNativeRequest([1], 5, options()), options()));
  const first = left.next();
  emit({ kind: "token", id: submitted[0]!.id, token: 3 });
  assert.deepEqual((await first).value?.ids, [3]);
  await left.return();
  assert.deepEqual(cancelled, [submitted[0]!.id]);

  const controller = new AbortController();
  const aborted = runSequence(toRun(session, request(), options({ signal: controller.signal }))).next();
  await nextTurn();
  controller.abort();
  await assert.rejects(aborted, hasCode("ERR_ABORTED"));
  assert.deepEqual(cancelled, [submitted[0]!.id, submitted[1]!.id]);
});

test("outputs that fail or are aborted are cancelled with all others of their call", async () => {
  const { session, cancelled, submitted, emit } = startSession();
  const requests = [1, 2, 3].map((token) => ({ tokens: [token], wanted: "hidden" }) as const);
  const failing = computeOutputs(session, requests);
  const [first, second, third] = submitted.map(({ id }) => id) as [number, number, number];
  emit({ kind: "outputs", id: first, outputs: new Float32Array(), hidden: new Float32Array(2) });
  emit({ kind: "rejected", id: second, code: "ERR_NUMERIC", message: "NaN" });
  await assert.rejects(failing, hasCode("ERR_NUMERIC"));
  assert.deepEqual(cancelled, [third]);

  const controller = new AbortController();
  const aborted = computeOutputs(session, requests.slice(1), controller.signal);
  controller.abort();
  await assert.rejects(aborted, hasCode("ERR_ABORTED"));
  assert.deepEqual(cancelled, [third, submitted[3]!.id, submitted[4]!.id]);
});

test("a sequence that has ended by itself is not cancelled", async () => {
  const { session, cancelled, submitted, emit } = startSession();
  const chunks = runSequence(toRun(session, request(), options()));
  const first = chunks.next();
  const id = submitted[0]!.id;
  emit({ kind: "token", id, token: 3 }, { kind: "token", id, token: 4 }, { kind: "done", id, reason: "length" });
  const { value } = await first;
  assert.deepEqual(value, {
    text: "",
    ids: [3, 4],
    finishReason: "length",
    usage: { promptTokens: 1, newTokens: 2, cachedTokens: 0 },
  });
  assert.equal((await chunks.next()).done, true);
  assert.deepEqual(cancelled, []);
});

/** Runs a script with a clock that only `pass` moves. */
async function withClock(run: (pass: (ms: number) => Promise<void>) => Promise<void>): Promise<void> {
  let now = 1000;
  const clock = mock.method(performance, "now", () => now);
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    await run(async (ms) => {
      now += ms;
      mock.timers.tick(ms);
      await nextTurn();
    });
  } finally {
    mock.timers.reset();
    clock.mock.restore();
  }
}

test("a paced loop has its first chunk at once, the next after the interval, and the last at the end", async () => {
  await withClock(async (pass) => {
    const { session, submitted, emit } = startSession();
    const chunks = runSequence(toRun(session, request(), options()), { chunkIntervalMs: 20 });
    const first = chunks.next();
    const id = submitted[0]!.id;
    emit({ kind: "token", id, token: 1 });
    assert.deepEqual((await first).value?.ids, [1]);

    const seen: number[][] = [];
    const watch = async () => seen.push((await chunks.next()).value?.ids ?? []);
    const second = watch();
    for (const token of [2, 3, 4]) {
      await pass(6);
      emit({ kind: "token", id, token });
      assert.deepEqual(seen, []);
    }
    await pass(2);
    assert.deepEqual(seen, [[2, 3, 4]]);
    await second;

    // Nothing came in the interval: the next token does not wait.
    const third = watch();
    await pass(30);
    emit({ kind: "token", id, token: 5 });
    await third;
    assert.deepEqual(seen[1], [5]);

    const last = chunks.next();
    await nextTurn();
    emit({ kind: "token", id, token: 6 }, { kind: "done", id, reason: "length" });
    const { value } = await last;
    assert.deepEqual([value?.ids, value?.finishReason, value?.usage?.newTokens], [[6], "length", 6]);
  });
});

test("a pace that is a function is asked after each chunk", async () => {
  await withClock(async (pass) => {
    const { session, submitted, emit } = startSession();
    let intervalMs = 50;
    const chunks = runSequence(toRun(session, request(), options()), { chunkIntervalMs: () => intervalMs });
    const first = chunks.next();
    const id = submitted[0]!.id;
    emit({ kind: "token", id, token: 1 });
    await first;
    intervalMs = 0;
    for (const [token, waitMs] of [
      [2, 50],
      [3, 0],
    ] as const) {
      const next = chunks.next();
      emit({ kind: "token", id, token });
      if (waitMs > 0) await pass(waitMs);
      assert.deepEqual((await next).value?.ids, [token]);
    }
  });
});

test("a pause ends with the signal or a failure", async () => {
  await withClock(async () => {
    for (const end of ["abort", "fail"]) {
      const { session, cancelled, submitted, emit } = startSession();
      const controller = new AbortController();
      const given = options({ signal: controller.signal });
      const chunks = runSequence(toRun(session, request(), given), { chunkIntervalMs: 20 });
      const first = chunks.next();
      const id = submitted[0]!.id;
      emit({ kind: "token", id, token: 1 });
      await first;
      const next = chunks.next();
      await nextTurn();
      if (end === "abort") controller.abort();
      else emit({ kind: "rejected", id, code: "ERR_NUMERIC", message: "NaN" });
      await assert.rejects(next, hasCode(end === "abort" ? "ERR_ABORTED" : "ERR_NUMERIC"));
      assert.deepEqual(cancelled, end === "abort" ? [id] : []);
    }
  });
});

test("a loop with stop strings has a chunk a step, whatever its pace", async () => {
  await withClock(async () => {
    const { session, submitted, emit } = startSession();
    const chunks = runSequence(toRun(session, request(), options({ stop: "x" })), { chunkIntervalMs: 20 });
    for (const token of [1, 2, 3]) {
      const next = chunks.next();
      emit({ kind: "token", id: submitted[0]!.id, token });
      assert.deepEqual((await next).value?.ids, [token]);
    }
  });
});

test("tokens behind the one that completes a stop string are dropped, and the sequence is cancelled", async () => {
  const { session, cancelled, submitted, emit } = startSession();
  // Token n is the n-th letter.
  const letters = {
    decodeStream: () => ({ push: (id: number) => String.fromCharCode(97 + id), flush: () => "" }),
    idToToken: () => undefined,
    specialTokenIds: new Set<number>(),
    tokenBytes: () => undefined,
  } as unknown as Tokenizer;
  const stopping = options({ stop: "cd" });
  const chunks = runSequence({
    session,
    request: toNativeRequest([0], 9, stopping),
    options: stopping,
    tokenizer: letters,
  });
  const first = chunks.next();
  const id = submitted[0]!.id;
  emit(...[1, 2, 3, 4, 5].map((token) => ({ kind: "token", id, token }) as const));
  const { value } = await first;
  assert.deepEqual([value?.text, value?.ids, value?.finishReason, value?.stopReason], ["b", [1, 2, 3], "stop", "cd"]);
  assert.deepEqual(value?.usage, { promptTokens: 1, newTokens: 3, cachedTokens: 0 });
  assert.equal((await chunks.next()).done, true);
  assert.deepEqual(cancelled, [id]);
});
