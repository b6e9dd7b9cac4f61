import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { build, halfAnHour, released, root, run } from "./native_build.js";

// The C++ test program's own options (test/native/main.cpp).

describe("the C++ test program", () => {
  before(() => build(released, ["native_tests"]), { timeout: halfAnHour });

  const runCases = (...args: string[]) => run(`${root}${released.folder}/test/native/native_tests`, args);
  const list = (...args: string[]) =>
    runCases("--list", ...args)
      .output.trimEnd()
      .split("\n");

  test("lists cases, filtered, without some, and in an order that a seed decides", () => {
    const all = list();
    const half = list("--filter", "half/,hmac/");
    assert.ok(half.length > 4 && half.length < all.length);
    assert.ok(half.every((name) => /^(half|hmac)\//.test(name)));
    assert.ok(list("--filter", "half/,hmac/", "--exclude", "hmac/").every((name) => name.startsWith("half/")));
    assert.deepEqual(list("--seed", "5"), list("--seed", "5"));
    assert.notDeepEqual(list("--seed", "5"), all);
    assert.deepEqual(list("--seed", "5").sort(), all.sort());
  });

  test("runs each case in one shard", () => {
    const names = (output: string) => [...output.matchAll(/^ok +(\S+)/gm)].map(([, name]) => name);
    const whole = runCases("--filter", "half/", "--slowest", "1");
    assert.match(whole.output, /^slow +half\/\w+ \(\d+ ms\)$/m);
    const shards = [1, 2, 3].flatMap((i) => names(runCases("--filter", "half/", "--shard", `${i}/3`).output));
    assert.deepEqual(shards.sort(), names(whole.output).sort());
  });

  test("refuses what it does not know, and a filter that nothing matches", () => {
    for (const args of [["--fast"], ["--shard", "3/2"], ["--shard", "0/2"], ["--shard", "1"], ["--filter"]]) {
      const { status, output } = runCases(...args);
      assert.equal(status, 2, args.join(" "));
      assert.match(output, /^Found .*, expected: \[--list\]/);
    }
    const { status, output } = runCases("--filter", "no case has this name");
    assert.equal(status, 1);
    assert.match(output, /No case matches/);
  });

  test("reports a failure of any kind, in any thread, and goes on", () => {
    build(released, ["failing_cases"]);
    const program = `${root}${released.folder}/test/native/failing_cases`;
    const { status, output } = run(program, []);
    assert.equal(status, 1, output);
    assert.match(output, /^1 passed, 12 failed, 0 skipped, /m);
    assert.match(output, /^ok +passing\/last /m);
    const said = (name: string) => run(program, ["--filter", `failing/${name}`]).output;
    for (const [name, message] of Object.entries({
      check: "1 + 1: found 2, expected 3",
      require: "found false: 1 + 1 == 3",
      throws: "the case threw: ERR_COMM: a rank is gone",
      throws_what_is_no_exception: "the case threw: the end of the group",
      throws_after_many_failures: "the case threw: another exception: the tenth",
      many_failures: "i: found 9, expected -1",
      thread_throws: "thread 1 of the case threw: ERR_COMM: rank 2 fell over",
      thread_throws_what_is_no_exception: "thread 0 of the case threw: the end of the group",
      thread_requires: "found false: 1 + 1 == 3",
      thread_skips: "thread 0 of the case threw: SKIP where only the case itself may: not here",
      many_failures_of_threads: "round: found 0, expected -1",
      requires_beside_threads: "found false: 1 + 1 == 3",
    }))
      assert.ok(said(name).includes(`: ${message}\n`), `${name}:\n${said(name)}`);
  });
});
