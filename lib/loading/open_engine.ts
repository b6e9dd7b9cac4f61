import { onAbort } from "../base/abort.js";
import type { Logger } from "../base/logger.js";
import { formatBytes } from "../base/memory.js";
import { Engine } from "../engine/engine.js";
import { modelInfo } from "../engine/model_info.js";
import { Session } from "../engine/session.js";
import { roleTensors } from "../models/index.js";
import type { EnginePlan, LoadOutcome, NativeBinding } from "../native/binding.js";
import type { ModelPlan } from "./model_plan.js";
import type { ResolvedInitOptions } from "./options.js";
import { shardedTensors } from "./sharding.js";

/**
 * Opens what was planned, and waits until it can generate.
 *
 * @param devices Of all ranks of the group, by rank.
 */
export async function openEngine(
  plan: EnginePlan,
  model: ModelPlan,
  devices: string[],
  options: ResolvedInitOptions,
  binding: NativeBinding,
): Promise<Engine> {
  const session = await openSession(binding, plan, options);
  try {
    options.logger.info(describeLoaded(session, plan, model, devices));
    const { tokenizer, tokenizerFiles, generationDefaults } = model;
    const { spec, dtype, maxSequenceTokens: contextTokens, firstRank: rank } = plan;
    const { adapter } = model;
    const info = modelInfo(spec, model.labels);
    const module = { info, dtype, devices, tensors: listTensors(plan, binding), adapter };
    return new Engine({
      session,
      module,
      tokenizer,
      tokenizerFiles,
      sentenceSettings: model.sentenceSettings,
      problemType: model.labels.problemType,
      generationDefaults,
      logger: options.logger,
      contextTokens,
      rank,
    });
  } catch (error) {
    await session.close(); // a logger that throws, say
    throw error;
  }
}

function describeLoaded(session: Session, plan: EnginePlan, { adapter, draft }: ModelPlan, devices: string[]): string {
  const { spec, dtype, threads, maxSequenceTokens } = plan;
  const { memory } = session.stats();
  const total = (key: "weightBytes" | "kvCacheBytes") => formatBytes(memory.reduce((sum, of) => sum + of[key], 0));
  const places = [...new Set(devices)].join(", ");
  const ofGroup = plan.group ? ` (this is ${plan.firstRank})` : "";
  const ranks = devices.length === 1 ? "" : ` in ${devices.length} ranks${ofGroup}`;
  const each = devices.length === 1 ? "" : " each";
  return (
    `Loaded ${spec.family}${adapter ? ` with the ${adapter.method} adapter ${adapter.folder}` : ""}${draft ? ` and a ${draft.model.spec.family} that drafts for it` : ""} on ${places}${ranks}: weights ${total("weightBytes")} as ${dtype}, KV cache ${total("kvCacheBytes")}, ` +
    `${plan.devices[0] === "cpu" ? `${threads} threads${each}, ` : ""}sequences of up to ${maxSequenceTokens} tokens`
  );
}

/** The model's tensors, with shapes as the first rank of this process holds them. */
function listTensors(plan: EnginePlan, binding: NativeBinding): { role: string; name: string; shape: number[] }[] {
  const {
    weights,
    group: _group,
    kvCachePages: _pages,
    lookup: _lookup,
    prefixCache: _prefixCache,
    draft: _draft,
    weighsDrafts: _weighs,
    ...ranks
  } = plan;
  const tensors = roleTensors(weights?.weights ?? []);
  return plan.tpSize === 1
    ? tensors.map(({ role, tensor, shape }) => ({ role, name: tensor, shape }))
    : shardedTensors(tensors, binding.shardShapes(ranks));
}

/** Starts the native engine and waits until its model is loaded. Whatever ends that earlier, nothing of it stays behind. */
async function openSession(binding: NativeBinding, plan: EnginePlan, options: ResolvedInitOptions): Promise<Session> {
  const { signal, onProgress, logger } = options;
  let interrupt: (error: unknown) => void = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    interrupt = reject;
  });
  interrupted.catch(() => {}); // the race below takes it, or something else has ended the call by then
  const stopListening = onAbort(signal, interrupt);
  const report = (loadedBytes: number, totalBytes: number) => {
    try {
      onProgress?.({ phase: "load", loadedBytes, totalBytes });
    } catch (error) {
      interrupt(error); // the caller's own: it ends the call that it belongs to
    }
  };
  let session: Session | undefined;
  try {
    session = new Session(binding, plan, report);
    const { loadMs, overflows } = await Promise.race([session.ready, interrupted]);
    warnOfOverflows(overflows, logger);
    onProgress?.({ phase: "ready", loadMs });
    return session;
  } catch (error) {
    // A plan that is refused makes no engine, which would have taken the listener over.
    if (session === undefined && plan.group !== null && plan.group.listener >= 0)
      binding.closeListener(plan.group.listener);
    await session?.close();
    throw error;
  } finally {
    stopListening();
  }
}

/** Tensors that a warning names. */
const kNamedTensors = 3;

/** A model with an infinite weight gives NaN sooner or later, which says nothing of where it comes from. */
function warnOfOverflows(overflows: LoadOutcome["overflows"], logger: Logger): void {
  if (overflows.length === 0) return;
  const named = overflows.slice(0, kNamedTensors).map(({ tensor, count }) => `${count} of ${tensor}`);
  const more =
    overflows.length > kNamedTensors ? ` and values of ${overflows.length - kNamedTensors} more tensors` : "";
  logger.warn(
    `Weights are beyond the range of float16 (65504) and became infinite: ${named.join(", ")}${more}. Use dtype "bf16" or "fp32"`,
  );
}
