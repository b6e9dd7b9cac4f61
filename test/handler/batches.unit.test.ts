import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { describe, test } from "node:test";
import {
  BaseHandler,
  type BatchRequest,
  Context,
  type HandlerFunction,
  type HandlerRequest,
  HandlerService,
  type IntermediateResponse,
  sendIntermediatePredictResponse,
} from "../../dist/index.js";
import { hasCode } from "../support/fixtures.js";

// What belongs to a batch, and which batch a kept context speaks of.

const continuous = { continuousBatching: true };

function makeContext(modelYamlConfig: object = {}): Context {
  return new Context({ modelName: "opt", modelDir: "/m", modelYamlConfig });
}

/** Lets the test say when each batch goes on. */
class Gate {
  readonly #events = new EventEmitter();
  readonly arrived: string[] = [];

  async wait(name: string): Promise<void> {
    const opened = once(this.#events, name);
    this.arrived.push(name);
    this.#events.emit(`arrived ${name}`);
    await opened;
  }

  async reached(name: string): Promise<void> {
    if (!this.arrived.includes(name)) await once(this.#events, `arrived ${name}`);
  }

  open(name: string): void {
    this.#events.emit(name);
  }
}

/** As it is ported from Python: keeps the context at initialize(), and asks it from then on. */
class KeepingHandler extends BaseHandler {
  constructor(readonly gate: Gate) {
    super();
  }

  override async initialize(context: Context): Promise<void> {
    this.context = context;
  }

  override async handle(_data: HandlerRequest[], given: Context): Promise<unknown> {
    const { kept, gate } = this;
    const name = given.getRequestId(0) as string;
    await gate.wait(name);
    await new Promise((resolve) => setTimeout(resolve, 1));
    kept.setResponseHeader(0, "x-batch", kept.getRequestId(0) as string);
    kept.setResponseStatus(200 + kept.getRequestHeader(0, "number"), "Made", 0);
    sendIntermediatePredictResponse([`part of ${name}`], kept.requestIds, "Intermediate", 200, kept);
    kept.metrics.addCounter("Seen", 1, 0);
    kept.stoppingCriteria = [() => name === "a"];
    await gate.wait(`${name} end`);
    return [
      {
        id: kept.getRequestId(0),
        places: Object.keys(kept.requestIds).length,
        header: kept.getRequestHeader(0, "number"),
        aborted: kept.requestSignals[0]?.aborted,
        stops: kept.stoppingCriteria?.[0]?.(undefined),
        same: kept === given,
      },
    ];
  }

  get kept(): Context {
    return this.context as Context;
  }
}

function request(id: string, number: number, signal?: AbortSignal): BatchRequest[] {
  return [{ id, data: {}, headers: { number: number as unknown as string }, signal }];
}

describe("with continuousBatching batches overlap", () => {
  for (const yaml of [continuous, { asyncCommunication: true }, { continuousBatching: "yes" }]) {
    test(`and neither sees what is the other's: ${JSON.stringify(yaml)}`, async () => {
      const gate = new Gate();
      const context = makeContext(yaml);
      const service = new HandlerService(new KeepingHandler(gate), context);
      assert.equal(service.overlaps, true);
      await service.initialize();
      const parts: Record<string, IntermediateResponse[]> = { a: [], b: [] };
      const gone = new AbortController();
      const sink = (name: string) => (responses: IntermediateResponse[]) => void parts[name]?.push(...responses);
      const first = service.predict(request("a", 1, gone.signal), { onIntermediateResponse: sink("a") });
      const second = service.predict(request("b", 2, new AbortController().signal), {
        onIntermediateResponse: sink("b"),
      });
      await Promise.all([gate.reached("a"), gate.reached("b")]);
      gone.abort();
      // The later one goes on first: what is kept on the context must not be the earlier one's then.
      for (const step of ["b", "a"]) {
        gate.open(step);
        await gate.reached(`${step} end`);
      }
      for (const step of ["a end", "b end"]) gate.open(step);
      const outcomes = await Promise.all([first, second]);
      for (const [i, { code, message, responses, error }] of outcomes.entries()) {
        const name = "ab"[i] as string;
        assert.equal(code, 200, `${message} ${error}`);
        const [response] = responses;
        assert.deepEqual(JSON.parse(String(response?.body)), {
          id: name,
          places: 1,
          header: i + 1,
          aborted: i === 0,
          stops: i === 0,
          same: true,
        });
        assert.deepEqual([response?.requestId, response?.status, response?.phrase], [name, 201 + i, "Made"]);
        assert.deepEqual(response?.headers, { "x-batch": name, ts_stream_next: "false" });
        assert.deepEqual(
          parts[name]?.map(({ requestId, body }) => [requestId, String(body)]),
          [[name, `part of ${name}`]],
        );
      }
      const seen = context.metrics.take().filter(({ name }) => name === "Seen");
      assert.deepEqual(
        seen.map(({ requestId }) => requestId),
        ["b", "a"],
      );
      await service.dispose();
    });
  }

  test("code that no handle() has called cannot ask which batch it is, while there are several", async () => {
    const gate = new Gate();
    const context = makeContext(continuous);
    const service = new HandlerService(new KeepingHandler(gate), context);
    await service.initialize();
    const sent: BatchRequest[][] = [request("a", 1), request("b", 2)];
    const options = { onIntermediateResponse: () => {} };
    const [first] = sent.map((batch) => service.predict(batch, options));
    await Promise.all([gate.reached("a"), gate.reached("b")]);
    assert.throws(() => context.getRequestId(), hasCode("ERR_HANDLER", /opt.*2 batches run.*handle\(\)/));
    assert.throws(() => context.setResponseStatus(500), hasCode("ERR_HANDLER", /batch/));
    context.metrics.addCounter("OfTheModel", 1);
    gate.open("a");
    await gate.reached("a end");
    gate.open("a end");
    await first;
    assert.equal(context.getRequestId(), "b"); // the only one
    gate.open("b");
    await gate.reached("b end");
    gate.open("b end");
    await service.dispose();
    assert.equal(context.getRequestId(), "b"); // the last one
  });

  test("dispose() waits for all of them", async () => {
    const gate = new Gate();
    const steps: string[] = [];
    const service = new HandlerService(
      {
        async handle(data, context) {
          await gate.wait(context.getRequestId(0) as string);
          steps.push(`end ${context.getRequestId(0)}`);
          return data;
        },
        dispose: () => void steps.push("dispose"),
      },
      makeContext(continuous),
    );
    const outcomes = ["a", "b"].map((id) => service.predict([{ id }]));
    await Promise.all([gate.reached("a"), gate.reached("b")]);
    const disposed = service.dispose();
    gate.open("b");
    await outcomes[1];
    gate.open("a");
    await disposed;
    assert.deepEqual(steps, ["end b", "end a", "dispose"]);
  });

  test("a batch that fails leaves the other alone", async () => {
    const gate = new Gate();
    const handle: HandlerFunction = async (data, context) => {
      const id = context.getRequestId(0) as string;
      await gate.wait(id);
      if (id === "a") throw new Error("bad");
      return data;
    };
    const service = new HandlerService(handle, makeContext(continuous));
    const outcomes = ["a", "b"].map((id) => service.predict([{ id }]));
    await Promise.all([gate.reached("a"), gate.reached("b")]);
    gate.open("a");
    assert.equal((await outcomes[0])?.code, 503);
    gate.open("b");
    assert.equal((await outcomes[1])?.code, 200);
  });
});

describe("without it they queue", () => {
  for (const yaml of [{}, { continuousBatching: false }, { continuousBatching: "maybe" }]) {
    test(JSON.stringify(yaml), async () => {
      const gate = new Gate();
      const service = new HandlerService(new KeepingHandler(gate), makeContext(yaml));
      assert.equal(service.overlaps, false);
      await service.initialize();
      const options = { onIntermediateResponse: () => {} };
      const outcomes = [1, 2].map((number) => service.predict(request("ab"[number - 1] as string, number), options));
      for (const step of ["a", "a end", "b", "b end"]) {
        await gate.reached(step);
        await new Promise((resolve) => setTimeout(resolve, 5));
        assert.equal(gate.arrived.at(-1), step, "nothing of the next batch has begun");
        gate.open(step);
      }
      const ids = (await Promise.all(outcomes)).map(({ responses }) => JSON.parse(String(responses[0]?.body)).id);
      assert.deepEqual(ids, ["a", "b"]);
    });
  }
});

test("a batch that ends late in the background is still answered for itself", async () => {
  const context = makeContext();
  let late: Promise<string | undefined> | undefined;
  const service = new HandlerService((data, ctx) => {
    late ??= new Promise((resolve) => setTimeout(() => resolve(ctx.getRequestId(0)), 20));
    return data;
  }, context);
  await service.predict([{ id: "a" }]);
  await service.predict([{ id: "b" }]);
  assert.equal(context.getRequestId(0), "b");
  assert.equal(await late, "a");
});
