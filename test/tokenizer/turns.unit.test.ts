import assert from "node:assert/strict";
import { test } from "node:test";
import { nextTurn } from "../../dist/tokenizer/encoding/turns.js";

test("one caller a turn of the event loop, in their order", async () => {
  let turn = 0;
  let counting = true;
  const count = () => {
    turn++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const order: { name: string; turn: number }[] = [];
  const work = async (name: string) => {
    for (let slice = 0; slice < 3; slice++) {
      await nextTurn();
      order.push({ name, turn });
    }
  };
  await Promise.all(["a", "b", "c"].map(work));
  counting = false;
  assert.deepEqual(
    order.map(({ name }) => name),
    ["a", "b", "c", "a", "b", "c", "a", "b", "c"],
  );
  const turns = order.map((one) => one.turn);
  for (const [i, value] of turns.entries()) assert.ok(i === 0 || value > (turns[i - 1] as number), turns.join());
});
