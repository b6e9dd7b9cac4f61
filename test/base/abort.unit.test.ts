import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { onAbort } from "../../dist/base/abort.js";

describe("what follows a signal", () => {
  const listeners = (signal: AbortSignal) => getEventListeners(signal, "abort").length;

  test("shares one listener, which leaves with the last of it", () => {
    const { signal } = new AbortController();
    const stops = Array.from({ length: 100 }, () => onAbort(signal, () => assert.fail("it was not given")));
    assert.equal(listeners(signal), 1);
    for (const stop of stops.slice(1)) stop();
    assert.equal(listeners(signal), 1);
    stops[0]?.();
    assert.equal(listeners(signal), 0);
  });

  test("is called once each, in order, with the signal's reason; but for what has left, also while it is called", () => {
    const controller = new AbortController();
    const called: string[] = [];
    const follow = (name: string, more = () => {}) =>
      onAbort(controller.signal, ({ code, cause }) => {
        called.push(`${name} ${code} ${cause}`);
        more();
      });
    const gone = follow("gone");
    follow("first", () => late());
    const late = follow("late");
    follow("last");
    gone();
    controller.abort("enough");
    assert.deepEqual(called, ["first ERR_ABORTED enough", "last ERR_ABORTED enough"]);
    follow("after");
    assert.equal(called.at(-1), "after ERR_ABORTED enough", "at once");
  });

  test("may leave twice, and what follows anew stays", () => {
    const controller = new AbortController();
    const stop = onAbort(controller.signal, () => assert.fail("it has left"));
    stop();
    let calls = 0;
    onAbort(controller.signal, () => calls++);
    stop();
    controller.abort();
    assert.equal(calls, 1);
  });
});
