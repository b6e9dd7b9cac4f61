import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Context, decodeRequest, HandlerService, loadHandler, resolveHandler } from "../../dist/index.js";
import { hasCode } from "../support/fixtures.js";

const context = new Context({ modelName: "opt", modelDir: "/m" });
const service = new HandlerService({ handle: (rows) => rows }, context);

describe("what is no argument of a public function is named", () => {
  const rows: [string, RegExp, () => unknown][] = [
    ["no handler", /handler/, () => new HandlerService(null as never, context)],
    ["a handler without handle", /method handle/, () => new HandlerService({} as never, context)],
    ["no context", /context/, () => new HandlerService(() => [], {} as never)],
    ["no requests", /requests/, () => service.predict(undefined as never)],
    ["requests that are none", /requests/, () => service.predict([null] as never)],
    ["no parts", /parts/, () => decodeRequest(null as never)],
    ["a part that is none", /parts/, () => decodeRequest([undefined] as never)],
    ["a part without a value", /"a".*bytes or text/, () => decodeRequest([{ name: "a" }] as never)],
    ["a part of another type", /"a".*bytes or text/, () => decodeRequest([{ name: "a", value: {} }] as never)],
    ["no folder to load from", /modelDir/, () => loadHandler("a.mjs", 5 as never)],
    ["nothing to resolve", /handler/, () => resolveHandler(undefined as never)],
    ["no folder to resolve in", /modelDir/, () => resolveHandler({ handler: "a" } as never)],
  ];
  for (const [name, message, call] of rows) {
    test(name, () => assert.rejects(async () => call(), hasCode("ERR_INVALID_ARGUMENT", message)));
  }
});
