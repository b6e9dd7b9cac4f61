// One rank of a group of processes: node rank_process.js JSON, with a launcher's variables. Prints a line of JSON for each thing that
// happens, and obeys test/support/ranks.ts.
import { appendFileSync } from "node:fs";
import { type Engine, initInference, ShardspeedError } from "../../dist/index.js";

export interface RankTask {
  /** Opened one after the other. */
  models: string[];
  tpSize: number;
  prompt: number[];
  maxNewTokens: number;
  /** More init options. */
  options?: object;
  /** The driver generates again and again, until something fails. */
  forever?: boolean;
  /** Gives up loading after so many milliseconds. */
  abortAfterMs?: number;
  /** Ends without dispose(). */
  careless?: boolean;
  /** Calls nothing but dispose(). */
  onlyDisposes?: boolean;
  /** After a failure: another engine, of one rank. */
  again?: boolean;
  /** After a failure: the same once more. */
  retry?: boolean;
}

function say(event: object): void {
  // At once: the process may be killed at any time.
  appendFileSync(1, `${JSON.stringify(event)}\n`);
}

function describe(error: unknown): object {
  const { code, message, cause } = error as ShardspeedError;
  return { code, message, cause: ShardspeedError.isInstance(cause) ? cause.code : undefined };
}

async function open(task: RankTask, model: string, tpSize: number): Promise<Engine> {
  return initInference(model, {
    config: { dtype: "fp32", tensor_parallel: { tp_size: tpSize } },
    ...{ device: "cpu", threads: 1 },
    ...(task.abortAfterMs === undefined ? {} : { signal: AbortSignal.timeout(task.abortAfterMs) }),
    ...task.options,
  });
}

async function work(task: RankTask, engine: Engine): Promise<void> {
  const { prompt, maxNewTokens } = task;
  const options = { maxNewTokens, ignoreEos: true };
  if (!engine.isDriver) {
    const refusal = await engine.generate(prompt, options).then(
      () => "nothing",
      ({ code }) => code,
    );
    if (refusal !== "ERR_NOT_DRIVER" && !engine.disposed)
      throw new Error(`generate() on a rank that follows: ${refusal}`);
    if (!task.careless) await engine.finished;
    return;
  }
  do {
    const greedy = await engine.generate(prompt, options);
    const seeded = await engine.generate(prompt, { ...options, temperature: 0.8, topP: 0.95, seed: 11 });
    say({ event: "tokens", greedy: greedy.ids, seeded: seeded.ids });
  } while (task.forever);
}

async function run(task: RankTask): Promise<void> {
  for (const model of task.models) {
    say({ event: "opening", pid: process.pid });
    const began = performance.now();
    let engine: Engine | undefined;
    try {
      engine = await open(task, model, task.tpSize);
      say({ event: "ready", rank: engine.rank, driver: engine.isDriver, memory: engine.stats().memory });
      if (!task.onlyDisposes) await work(task, engine);
      if (task.careless) return;
      await engine.dispose();
      say({ event: "done" });
    } catch (error) {
      say({ event: "failed", ...describe(error), afterMs: performance.now() - began });
      await engine?.dispose();
      if (task.again) {
        const alone = await open({ ...task, options: {} }, model, 1);
        const { ids } = await alone.generate(task.prompt, { maxNewTokens: task.maxNewTokens, ignoreEos: true });
        await alone.dispose();
        say({ event: "again", ids });
      }
      if (task.retry) return run({ ...task, retry: false });
    }
  }
}

await run(JSON.parse(process.argv[2] as string) as RankTask);
