import assert from "node:assert/strict";
import { test } from "node:test";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { onAbort } from "../../dist/base/abort.js";
import { resolveGenerationOptions } from "../../dist/engine/generation_options.js";
import { newHead, withHead } from "../../dist/serving/routes/openai/objects.js";
import type { Session } from "../../dist/serving/routes/openai/session.js";
import { FakeModel } from "../serving/openai/fake_model.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;

const oldBytes = () =>
  getHeapSpaceStatistics().reduce(
    (sum, { space_name, space_used_size }) => sum + (/^(new|code)/.test(space_name) ? 0 : space_used_size),
    0,
  );

const model = new FakeModel();
const session = { name: "fake", model, engine: model.engine } as unknown as Session;

/** What each request does. What is left of it after two young collections stays until a full one. */
const steps: Record<string, () => unknown> = {
  "reading options": () => resolveGenerationOptions({ maxNewTokens: 1, temperature: 0.5, seed: 1 }),
  "following a signal": () => onAbort(new AbortController().signal, () => {})(),
  "making an answer": () => withHead(newHead(session, "cmpl-", "text_completion"), { choices: [], usage: {} }),
};

for (const [name, step] of Object.entries(steps)) {
  test(`${name} leaves little in the old generation`, () => {
    const count = 500;
    for (let i = 0; i < count; i++) step();
    collect();
    collect();
    const before = oldBytes();
    for (let i = 0; i < count; i++) step();
    collect({ type: "minor" });
    collect({ type: "minor" });
    const each = (oldBytes() - before) / count;
    assert.ok(each < 2500, `${each} bytes of each are left`);
  });
}
