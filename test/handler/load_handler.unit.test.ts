import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import {
  BaseHandler,
  Context,
  HandlerService,
  loadHandler,
  resolveHandler,
  TextGenerationHandler,
} from "../../dist/index.js";
import { Scratch } from "../checkpoint/support.js";
import { fixture, hasCode } from "../support/fixtures.js";

const scratch = new Scratch();
const folder = fixture("handlers");
const readsTypeScript = Boolean((process.features as { typescript?: unknown }).typescript);

async function answerOf(handler: Awaited<ReturnType<typeof loadHandler>>): Promise<string> {
  const service = new HandlerService(handler, new Context({ modelName: "opt", modelDir: folder }));
  await service.initialize();
  const { responses, message } = await service.predict([{ id: "a", data: {} }]);
  assert.equal(message, "Prediction success");
  return String(responses[0]?.body);
}

describe("a handler module exports", () => {
  const rows: [string, string][] = [
    ["class.mjs", "own"],
    ["named.mjs", "plain"],
    ["twice.mjs", "same"],
    ["common.cjs", "common"],
    ["function.mjs", "opt"],
    ["function.mjs:other", "other"],
    ["named.mjs:Plain", "plain"],
    ["default_function.mjs", "default"],
    ["object.mjs", "object of opt"],
    ["instance.mjs", "instance"],
  ];
  for (const [spec, answer] of rows) {
    test(spec, async () => assert.equal(await answerOf(await loadHandler(spec, folder)), answer));
  }

  test("a class of this package, passed on", async () => {
    assert.ok((await loadHandler("shipped.mjs", folder)) instanceof TextGenerationHandler);
  });

  test("a function, which is called once without requests", async () => {
    const { calls } = await import(path.join(folder, "function.mjs"));
    calls.length = 0;
    await answerOf(await loadHandler("function.mjs", folder));
    assert.deepEqual(calls, [undefined, [{}]]);
  });

  test("and may lie where there is no node_modules", async () => {
    const elsewhere = scratch.folder();
    cpSync(path.join(folder, "class.mjs"), path.join(elsewhere, "class.mjs"));
    cpSync(path.join(folder, "class.mjs"), path.join(elsewhere, "class.js"));
    cpSync(path.join(folder, "extends.cjs"), path.join(elsewhere, "extends.cjs"));
    for (const file of ["class.mjs", "class.js", "extends.cjs"]) {
      const handler = await loadHandler(file, elsewhere);
      assert.ok(handler instanceof BaseHandler);
      assert.equal(await answerOf(handler), "own");
    }
  });

  test("TypeScript where Node reads it", async () => {
    const loaded = loadHandler("typed.ts", folder);
    if (readsTypeScript) assert.equal(await answerOf(await loaded), "typed");
    else
      await assert.rejects(
        loaded,
        hasCode("ERR_HANDLER", /typed\.ts: Node .* reads no TypeScript: .*compile it to \.mjs/),
      );
  });
});

describe("a handler in TypeScript", { skip: readsTypeScript ? false : "this Node reads no TypeScript" }, () => {
  const typed = `import { BaseHandler, type Context, type HandlerRequest } from "shardspeed";
export default class Typed extends BaseHandler {
  readonly #word: string = "typed";
  override async initialize(ctx: Context): Promise<void> { this.context = ctx; this.initialized = true; }
  override preprocess(rows: HandlerRequest[]): unknown[] { return rows; }
  override inference(rows: unknown[]): string[] { return rows.map((): string => this.#word); }
  override postprocess(rows: unknown[]): unknown[] { return rows; }
}
`;

  for (const ending of [".ts", ".mts"]) {
    test(`extends BaseHandler where there is no node_modules: ${ending}`, async () => {
      const elsewhere = scratch.folder({ [`typed${ending}`]: typed });
      const handler = await resolveHandler({ handler: "typed", modelDir: elsewhere });
      assert.ok(handler instanceof BaseHandler);
      assert.equal(await answerOf(handler), "typed");
    });
  }

  test("that needs more than its types left out says so", async () => {
    const elsewhere = scratch.folder({
      "enumerated.ts": "export enum Color { red }\nexport class Own { handle() {} }\n",
    });
    const says = /enumerated\.ts: .*enum is not supported/;
    await assert.rejects(loadHandler("enumerated.ts", elsewhere), hasCode("ERR_HANDLER", says));
  });
});

describe("a handler module that cannot be loaded", () => {
  const rows: [string, RegExp][] = [
    ["two.mjs", /two\.mjs: exports more than one class \(One, Two\)/],
    ["none.mjs", /none\.mjs: exports no class/],
    ["no_handle.mjs", /no_handle\.mjs: the class Silent has no method handle/],
    ["syntax.mjs", /syntax\.mjs: syntax error: .* \(line 3\)/],
    ["missing_import.mjs", /missing_import\.mjs: an import is missing: .*nowhere\.mjs/],
    ["missing_package.mjs", /missing_package\.mjs: an import is missing: .*no-such-package/],
    ["throws.mjs", /throws\.mjs: TypeError while it was loaded: at the top/],
    ["constructor.mjs", /constructor\.mjs: the constructor of Fails failed: not today/],
    ["nowhere.mjs", /nowhere\.mjs: there is no such handler file/],
    ["text.txt", /text\.txt: is no module/],
    [".", /is no file/],
    ["function.mjs:nothing", /function\.mjs: exports no function or class nothing, found .*handle/],
  ];
  for (const [spec, message] of rows) {
    test(spec, () => assert.rejects(loadHandler(spec, folder), hasCode("ERR_HANDLER", message)));
  }
});

describe("the handler of a model", () => {
  const empty = () => scratch.folder();
  const shipped = async (source: object) => {
    const found = await resolveHandler({ modelDir: empty(), ...source } as Parameters<typeof resolveHandler>[0]);
    assert.ok(found instanceof TextGenerationHandler, JSON.stringify(source));
  };

  test("is a shipped one by each of its names", async () => {
    for (const handler of ["text_generation_handler", "TextGenerationHandler", "text_generation"])
      await shipped({ handler });
  });

  test("is a module of the archive, with its ending or without", async () => {
    for (const handler of ["named.mjs", "named", "named:Plain", "common"]) {
      assert.match(await answerOf(await resolveHandler({ handler, modelDir: folder })), /plain|common/);
    }
  });

  test("in Python is what the yaml or the map says", async () => {
    const handler = "custom_handler.py";
    await shipped({ handler, yaml: { handler: "TextGenerationHandler" } });
    await shipped({ handler, yaml: { handler: { type: "TextGenerationHandler", model_path: "m" } } });
    for (const key of ["custom_handler.py", "custom_handler", "custom_handler:handle", "custom_handler.py:handle"]) {
      await shipped({ handler, handlerMap: { [key]: "TextGenerationHandler" } });
      await shipped({ handler: "custom_handler:handle", handlerMap: { [key]: "text_generation" } });
    }
    const mapped = await resolveHandler({ handler, modelDir: folder, handlerMap: { custom_handler: "named.mjs" } });
    assert.equal(await answerOf(mapped), "plain");
  });

  test("in Python, with neither, is an error that says what to write where", async () => {
    const modelDir = scratch.folder({ "custom_handler.py": "" });
    for (const handler of ["custom_handler.py", "custom_handler", "custom_handler:handle"]) {
      await assert.rejects(
        resolveHandler({ handler, modelDir, yaml: { handler: { model_path: "m" } }, handlerMap: { other: "x" } }),
        hasCode(
          "ERR_HANDLER",
          /custom_handler\.py, which is Python.*handler: \{ type: TextGenerationHandler.*--handler-map custom_handler\.py=TextGenerationHandler/,
        ),
      );
    }
  });

  test("of a wrong name is an error with the nearest", async () => {
    await assert.rejects(
      resolveHandler({ handler: "a.py", modelDir: empty(), yaml: { handler: "TextGeneratonHandler" } }),
      hasCode("ERR_HANDLER", /yaml names the handler TextGeneratonHandler.*Did you mean TextGenerationHandler/),
    );
    await assert.rejects(
      resolveHandler({ handler: "x", modelDir: empty() }),
      hasCode("ERR_HANDLER", /handler is x:.*Shipped/),
    );
    await assert.rejects(
      resolveHandler({ handler: "a.py", modelDir: empty(), handlerMap: { a: 3 as unknown as string } }),
      hasCode("ERR_INVALID_ARGUMENT", /handlerMap\["a"\]/),
    );
  });
});
