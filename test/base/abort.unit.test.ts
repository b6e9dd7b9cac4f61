import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
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

  test("is called though another throws, whose error ends the process as that of a listener does", () => {
    const abort = new URL("../../dist/base/abort.js", import.meta.url);
    const program = `
      import { onAbort } from ${JSON.stringify(abort.href)};
      process.on("uncaughtException", ({ message }) => console.log("uncaught", message));
      const controller = new AbortController();
      for (const name of ["first", "second", "third"]) {
        onAbort(controller.signal, () => {
          console.log(name);
          if (name !== "third") throw new Error(name);
        });
      }
      controller.abort();
      console.log("given");`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], {
      encoding: "utf8",
    });
    assert.equal(stdout, "first\nsecond\nthird\ngiven\nuncaught first\nuncaught second\n", stderr);
  });
});
