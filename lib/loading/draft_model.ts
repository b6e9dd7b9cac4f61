import { ShardspeedError } from "../base/errors.js";
import type { ResolvedConfig } from "../deepspeed_config/engine_config.js";
import { seesLater } from "../engine/model_info.js";
import type { MemoryEstimate, NativeBinding, RankPlan } from "../native/binding.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { cpuDevice } from "./device.js";
import { type DraftPlan, type ModelPlan, planModel } from "./model_plan.js";
import { readSource } from "./model_source.js";
import type { ResolvedInitOptions } from "./options.js";

/**
 * Reads everything of the draft model but its weights; undefined where the options name none. Its folder alone counts: checkpoint, adapter and
 * files to write are those of the model that it drafts for.
 *
 * @throws ShardspeedError What planModel() throws; ERR_CONFIG where it cannot draft for the other model.
 */
export async function planDraft(
  target: ModelPlan,
  config: ResolvedConfig,
  options: ResolvedInitOptions,
): Promise<DraftPlan | undefined> {
  const { speculation } = options;
  if (speculation?.method !== "draft") return undefined;
  const source = await readSource(speculation.model, options.signal);
  const alone: ResolvedConfig = {
    ...{ ...config, tpSize: 1, namesTpSize: false, minOutTokens: 1 },
    ...{ checkpoint: undefined, baseDir: undefined, saveMpCheckpointPath: undefined },
  };
  const own = { ...options, adapter: undefined, checkpoint: undefined, baseDir: undefined };
  const model = await planModel(source, alone, cpuDevice, own);
  checkVocabulary(speculation.model, target, model);
  return { draftTokens: speculation.draftTokens, model };
}

/** @throws ShardspeedError ERR_CONFIG: a token must be the same text to both models. */
function checkVocabulary(folder: string, target: ModelPlan, draft: ModelPlan): void {
  const refuse = (found: string) =>
    new ShardspeedError(
      "ERR_CONFIG",
      `The model ${folder} cannot draft for this ${target.spec.family} model: ${found}. Choose a smaller model of the same family and version.`,
    );
  for (const [spec, which] of [
    [target.spec, "the model to draft for"],
    [draft.spec, "it"],
  ] as const) {
    if (spec.output.kind !== "logits" || seesLater(spec)) throw refuse(`${which} makes no text`);
  }
  const [wanted, found] = [target.spec.vocabSize, draft.spec.vocabSize];
  if (wanted !== found) throw refuse(`its vocabulary has ${found} tokens, the other ${wanted}`);
  const different = findDifferent(target.tokenizer, draft.tokenizer);
  if (different !== undefined) throw refuse(different);
}

/** Where one of the models has no tokenizer, who made it knows what ids mean. */
function findDifferent(target: Tokenizer | undefined, draft: Tokenizer | undefined): string | undefined {
  if (target === undefined || draft === undefined) return undefined;
  for (let id = 0; id < Math.max(target.vocabSize, draft.vocabSize); id++) {
    const [wanted, found] = [target.idToToken(id), draft.idToToken(id)];
    if (wanted !== found) return `token ${id} is ${show(found)} in its tokenizer, and ${show(wanted)} in the other`;
  }
  return undefined;
}

function show(token: string | undefined): string {
  return token === undefined ? "none" : JSON.stringify(token);
}

/** What the draft model takes: one rank on the CPU, in the threads of the first rank. */
export interface DraftMemory {
  readonly ranks: RankPlan;
  readonly estimate: MemoryEstimate;
}

/** @throws ShardspeedError ERR_UNSUPPORTED_MODEL where the CPU does not compute all of it. */
export function planDraftMemory(
  { model }: DraftPlan,
  target: Pick<RankPlan, "threads" | "maxBatchTokens" | "maxSequenceTokens">,
  binding: NativeBinding,
): DraftMemory {
  const { spec, dtype } = model;
  const ranks: RankPlan = {
    ...{ spec, dtype, tpSize: 1, firstRank: 0, devices: ["cpu"], threads: target.threads },
    communicationDtype: "float32",
    maxBatchTokens: target.maxBatchTokens,
    maxSequenceTokens: Math.min(model.maxSequenceTokens, target.maxSequenceTokens),
  };
  const problem = binding.unsupported(ranks);
  if (problem !== null)
    throw new ShardspeedError("ERR_UNSUPPORTED_MODEL", `The draft model, a ${spec.family}, cannot be run: ${problem}`);
  return { ranks, estimate: binding.estimateMemory(ranks)[0] as MemoryEstimate };
}
