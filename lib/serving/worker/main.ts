// The program of a worker: a process that opens one model for a server and answers its requests. With a model whose ranks are processes there is
// one for each rank; rank 0 answers, and the others compute with it.
import { connect } from "node:net";
import process from "node:process";
import { ShardspeedError } from "../../base/errors.js";
import type { StreamPace } from "../../engine/generation.js";
import type { IntermediateResponse } from "../../handler/response.js";
import { openModelFiles } from "../model_files.js";
import { type OpenModel, startModel } from "../open_model.js";
import type { EngineCallName } from "./calls.js";
import { Channel } from "./channel.js";
import { describeEngine, runEngineCall } from "./engine_calls.js";
import { summarizeMetrics } from "./handler_metrics.js";
import { paceOf } from "./pace.js";
import {
  type FromWorker,
  socketVariable,
  type ToWorker,
  tokenVariable,
  toWireError,
  type WorkerPlan,
} from "./protocol.js";

const pulseMs = 500;

/** Work that can be cancelled: of a call one signal, of a batch one for each request. */
const running = new Map<number, AbortController[]>();
const opening = new AbortController();
let model: OpenModel | undefined;
let pace: StreamPace = {};

const rank = Number(process.env.RANK ?? 0);
const { [socketVariable]: socketPath, [tokenVariable]: token } = process.env;
delete process.env[tokenVariable];
// A worker of one process is no rank of a group: its ranks, if it has several, are threads.
if (process.env.WORLD_SIZE === "1")
  for (const name of [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SHARDSPEED_LAUNCHER",
  ])
    delete process.env[name];
if (socketPath === undefined || token === undefined) throw new Error("A worker is started by a server.");

const channel = new Channel<ToWorker, FromWorker>(connect(socketPath), take, () => process.exit(1));
channel.send({ kind: "hello", token, rank, pid: process.pid });

function take(message: ToWorker): void {
  switch (message.kind) {
    case "open":
      void open(message.plan);
      break;
    case "predict":
      void answer(message.id, message.requests.length, (signals) => predict(message, signals));
      break;
    case "call":
      void answer(message.id, 1, ([signal]) => call(message, signal as AbortSignal));
      break;
    case "cancel":
      for (const [index, controller] of (running.get(message.id) ?? []).entries())
        if (message.index === undefined || message.index === index) controller.abort();
      break;
    case "stop":
      void stop();
      break;
  }
}

async function open(plan: WorkerPlan): Promise<void> {
  const { location, unpacked, modelName, settings, modelConfigYaml, handlerMap, gpuId, engineOptions } = plan;
  pace = paceOf(plan, () => running.size);
  const log = (level: "debug" | "info" | "warn" | "error") => (message: string) =>
    channel.send({ kind: "log", level, message });
  let lastProgressAt = 0;
  try {
    const logger = { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
    const { signal } = opening;
    const files = await openModelFiles(location, { unpacked, modelConfigYaml, handlerMap, logger, signal });
    model = await startModel(files, location, {
      modelName,
      settings,
      gpuId,
      engineOptions: {
        ...engineOptions,
        onProgress: (progress) => {
          if (progress.phase !== "ready" && performance.now() - lastProgressAt < 100) return;
          lastProgressAt = performance.now();
          channel.send({ kind: "progress", progress });
        },
      },
      signal,
      logger,
    });
  } catch (error) {
    channel.send({ kind: "failed", error: toWireError(error), mayPass: mayPass(error) });
    channel.end();
    process.exitCode = 1;
    return;
  }
  const { engine, version } = model;
  channel.send({
    kind: "ready",
    description: {
      version,
      pid: process.pid,
      ...(engine === undefined || !engine.isDriver ? {} : { engine: describeEngine(engine) }),
    },
  });
  // A model whose engine has failed answers nothing any more: the server starts another worker.
  engine?.finished.then(
    () => (engine.isDriver ? undefined : stop()),
    (error) => {
      channel.send({ kind: "log", level: "error", message: `The engine failed: ${(error as Error).message}` });
      setTimeout(() => process.exit(1), 200);
      channel.flush();
    },
  );
  if (rank === 0) setInterval(pulse, pulseMs).unref();
}

/** What a handler of a model throws may pass; what the package says of files and options does not. */
function mayPass(error: unknown): boolean {
  if (!ShardspeedError.isInstance(error)) return true;
  if (error.code === "ERR_HANDLER") return error.cause !== undefined && !ShardspeedError.isInstance(error.cause);
  return ["ERR_OUT_OF_MEMORY", "ERR_CUDA", "ERR_COMM", "ERR_NATIVE"].includes(error.code);
}

function pulse(): void {
  const { user, system } = process.cpuUsage();
  const { engine, context } = model as OpenModel;
  const measures = summarizeMetrics(context.metrics.take());
  channel.send({
    kind: "pulse",
    pulse: {
      rssBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
      ...(engine === undefined || engine.disposed ? {} : { engine: engine.stats() }),
      ...(measures.length === 0 ? {} : { measures }),
    },
  });
}

async function answer(id: number, count: number, work: (signals: AbortSignal[]) => Promise<unknown>): Promise<void> {
  const controllers = Array.from({ length: count }, () => new AbortController());
  running.set(id, controllers);
  try {
    channel.send({ kind: "result", id, value: await work(controllers.map(({ signal }) => signal)) });
  } catch (error) {
    channel.send({ kind: "error", id, error: toWireError(error) });
  } finally {
    running.delete(id);
  }
}

async function predict(message: Extract<ToWorker, { kind: "predict" }>, signals: AbortSignal[]): Promise<unknown> {
  const { id, requests } = message;
  const { service } = model as OpenModel;
  const batch = requests.map((request, index) => ({ ...request, signal: signals[index] }));
  const {
    code,
    message: text,
    responses,
  } = await service.predict(batch, {
    onIntermediateResponse: (parts: IntermediateResponse[]) => {
      for (const part of parts) channel.send({ kind: "part", id, part });
    },
  });
  return { code, message: text, responses };
}

function call({ id, name, argument }: Extract<ToWorker, { kind: "call" }>, signal: AbortSignal): Promise<unknown> {
  const { engine } = model as OpenModel;
  if (engine === undefined) {
    const message = "The model's handler has no engine that could be asked.";
    return Promise.reject(new ShardspeedError("ERR_UNSUPPORTED_MODEL", message));
  }
  const emit = (part: unknown) => channel.send({ kind: "part", id, part });
  return runEngineCall(engine, name as EngineCallName, argument as never, { signal, pace, emit });
}

async function stop(): Promise<void> {
  opening.abort();
  await model?.dispose().catch(() => {});
  // What the handler has measured since the last one.
  if (rank === 0 && model !== undefined) pulse();
  channel.end();
  process.exit(0);
}
