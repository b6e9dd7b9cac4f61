import { type Logger, silentLogger } from "../base/logger.js";
import { isObject } from "../base/objects.js";
import type { ModelSpec, WeightDtype } from "../native/spec.js";
import { albert } from "./architectures/albert.js";
import { apertus } from "./architectures/apertus.js";
import { arcee } from "./architectures/arcee.js";
import { baichuan } from "./architectures/baichuan.js";
import { bert } from "./architectures/bert.js";
import { biogpt } from "./architectures/biogpt.js";
import { bloom } from "./architectures/bloom.js";
import { codegen } from "./architectures/codegen.js";
import { cohere } from "./architectures/cohere.js";
import { cohere2 } from "./architectures/cohere2.js";
import { debertaV2 } from "./architectures/deberta_v2.js";
import { deepseekV2 } from "./architectures/deepseek_v2.js";
import { deepseekV3 } from "./architectures/deepseek_v3.js";
import { distilbert } from "./architectures/distilbert.js";
import { electra } from "./architectures/electra.js";
import { ernie4_5 } from "./architectures/ernie4_5.js";
import { exaone4 } from "./architectures/exaone4.js";
import { falcon } from "./architectures/falcon.js";
import { gemma } from "./architectures/gemma.js";
import { gemma2 } from "./architectures/gemma2.js";
import { gemma3 } from "./architectures/gemma3.js";
import { glm } from "./architectures/glm.js";
import { glm4 } from "./architectures/glm4.js";
import { gptBigcode } from "./architectures/gpt_bigcode.js";
import { gptNeo } from "./architectures/gpt_neo.js";
import { gptNeox } from "./architectures/gpt_neox.js";
import { gptOss } from "./architectures/gpt_oss.js";
import { gpt2 } from "./architectures/gpt2.js";
import { gptj } from "./architectures/gptj.js";
import { granite } from "./architectures/granite.js";
import { graniteMoe } from "./architectures/granitemoe.js";
import { helium } from "./architectures/helium.js";
import { hunyuan } from "./architectures/hunyuan.js";
import { internlm2 } from "./architectures/internlm2.js";
import { llama } from "./architectures/llama.js";
import { llama4 } from "./architectures/llama4.js";
import { ministral } from "./architectures/ministral.js";
import { ministral3 } from "./architectures/ministral3.js";
import { mistral } from "./architectures/mistral.js";
import { mixtral } from "./architectures/mixtral.js";
import { modernbert } from "./architectures/modernbert.js";
import { mpnet } from "./architectures/mpnet.js";
import { mpt } from "./architectures/mpt.js";
import { nemotron } from "./architectures/nemotron.js";
import { nomicBert } from "./architectures/nomic_bert.js";
import { olmo } from "./architectures/olmo.js";
import { olmo2 } from "./architectures/olmo2.js";
import { olmo3 } from "./architectures/olmo3.js";
import { olmoe } from "./architectures/olmoe.js";
import { opt } from "./architectures/opt.js";
import { persimmon } from "./architectures/persimmon.js";
import { phi } from "./architectures/phi.js";
import { phi3 } from "./architectures/phi3.js";
import { phimoe } from "./architectures/phimoe.js";
import { qwen2 } from "./architectures/qwen2.js";
import { qwen2Moe } from "./architectures/qwen2_moe.js";
import { qwen3 } from "./architectures/qwen3.js";
import { qwen3Moe } from "./architectures/qwen3_moe.js";
import { camembert, roberta, xlmRoberta } from "./architectures/roberta.js";
import { seedOss } from "./architectures/seed_oss.js";
import { smollm3 } from "./architectures/smollm3.js";
import { stablelm } from "./architectures/stablelm.js";
import { starcoder2 } from "./architectures/starcoder2.js";
import { xglm } from "./architectures/xglm.js";
import { ConfigReader, show, unsupportedKey } from "./config.js";
import type { ModelDescription, ModelDescriptor, Task } from "./descriptor.js";
import { judgeKeys } from "./keys.js";
import { readLabels, withClassifier } from "./parts/heads.js";

export type { ModelSpec, WeightDtype, WeightPlan, WeightView } from "../native/spec.js";
export type { ModelDescription, ModelLabels, Task } from "./descriptor.js";
export { type ResolvedWeights, resolveWeights, roleTensors } from "./weights/resolve.js";

/** Every architecture there is. Adding one is its file and its line here. */
const descriptors: readonly ModelDescriptor[] = [
  ...[
    ...[opt, gpt2, llama, bloom, falcon],
    ...[gptj, codegen, gptNeox, gptNeo, gptBigcode, mpt, phi, persimmon, xglm, biogpt],
    ...[mistral, ministral, ministral3, qwen2, qwen3, phi3, stablelm, starcoder2, olmo, olmo2, olmo3, granite],
    ...[cohere, cohere2, gemma, gemma2, gemma3, glm, glm4, smollm3, nemotron, helium, exaone4, arcee, apertus],
    ...[ernie4_5, hunyuan, seedOss, llama4, internlm2, baichuan],
    ...[mixtral, qwen2Moe, qwen3Moe, olmoe, graniteMoe, phimoe, gptOss, deepseekV2, deepseekV3],
  ].map(withClassifier),
  ...[bert, roberta, xlmRoberta, camembert, distilbert, electra, mpnet, albert, modernbert, nomicBert],
  debertaV2,
];

/** What can be run, for docs and `inspect`. */
export interface Architecture {
  /** config.json's model_type. */
  modelType: string;
  /** Names in config.json's `architectures`. */
  classes: string[];
  summary: string;
}

export function architectures(): Architecture[] {
  return descriptors.map(({ modelType, classes, summary }) => ({ modelType, classes: [...classes], summary }));
}

/**
 * Describes the model of a parsed config.json, as transformers would build it. Does no I/O.
 *
 * `model_type` chooses the architecture and `architectures` has to agree. Settings that change the arithmetic are
 * computed or refused; keys that nobody knows are listed in one warning.
 * @throws ShardspeedError ERR_UNSUPPORTED_MODEL naming the key, what was found and what was expected
 */
export function describeModel(config: unknown, options: { logger?: Logger } = {}): ModelDescription {
  const logger = options.logger ?? silentLogger;
  const plain = ConfigReader.open(config);
  const descriptor = chooseDescriptor(plain);
  const reader = plain.withAliases(descriptor.aliases).withDefaults(descriptor.defaults ?? {});
  const storedDtype = readDtype(reader);
  reader.raw("model_type");
  const task = chooseTask(reader, descriptor);
  const { spec, body, head } = descriptor.describe(reader, task);
  checkClasses(reader, descriptor, spec);
  const labels = readLabels(reader, task, spec);
  const keys = judgeKeys(reader, descriptor, spec);
  if (keys.unknown.length > 0) {
    const names = keys.unknown.join(", ");
    logger.warn(`config.json has keys that are not known here, and that transformers ignores: ${names}`);
  }
  for (const note of reader.notes) logger.warn(`config.json: ${note}`);
  const { bodyPrefixes, ignoredTensors, renames = [] } = descriptor;
  return { spec, storedDtype, keys, labels, layout: { body, head, bodyPrefixes, ignoredTensors, renames } };
}

/** By the first class that config.json names, else by the descriptor's first. */
function chooseTask(config: ConfigReader, { classes, tasks = {} }: ModelDescriptor): Task {
  const named: unknown = config.peek("architectures");
  const [found = classes[0]] = Array.isArray(named) ? named : [];
  return typeof found === "string" && Object.hasOwn(tasks, found) ? (tasks[found] as Task) : "causal-lm";
}

function chooseDescriptor(config: ConfigReader): ModelDescriptor {
  const found = config.raw("model_type");
  const descriptor = descriptors.find(({ modelType }) => modelType === found);
  if (descriptor) return descriptor;
  if (config.peek("is_encoder_decoder") === true) {
    const advice =
      "Models of an encoder and a decoder are not computed: their decoders read what the encoder made of another text, which would take attention " +
      "between the two and a cache of its own.";
    throw unsupportedKey("model_type", found, "a model of a decoder or an encoder alone", advice);
  }
  const inside = isObject(config.peek("text_config"))
    ? (config.peek("text_config") as { model_type?: unknown })
    : undefined;
  if (inside) {
    const text = descriptors.some(({ modelType }) => modelType === inside.model_type)
      ? `Its text model, ${inside.model_type}, is computed if its weights and its config are saved by themselves.`
      : "";
    const advice =
      `This is a model of text and other things, such as images, of which none is computed. ${text}`.trimEnd();
    throw unsupportedKey("model_type", found, "a model of text alone", advice);
  }
  const supported = descriptors.map(({ modelType }) => modelType).join(", ");
  throw unsupportedKey("model_type", found, `one of ${supported}`, "Other architectures are not computed.");
}

function checkClasses(config: ConfigReader, descriptor: ModelDescriptor, spec: ModelSpec): void {
  const found = config.raw("architectures");
  if (found === undefined || found === null) return;
  if (!Array.isArray(found)) throw unsupportedKey("architectures", found, "a list of class names");
  for (const name of found) {
    if (descriptor.classes.includes(name)) continue;
    const expected = `one of ${descriptor.classes.join(", ")}`;
    if (!descriptor.bodyClasses.includes(name)) {
      throw unsupportedKey("architectures", found, expected, `${show(name)} is not a model that is computed here.`);
    }
    if (spec.output.kind === "logits" && !spec.output.tied)
      throw unsupportedKey("architectures", found, expected, `${name} has no head to make logits with.`);
  }
}

function readDtype(config: ConfigReader): WeightDtype | undefined {
  const read = (key: string) => (config.raw(key) === null ? undefined : config.text(key, undefined));
  const [older, newer] = [read("torch_dtype"), read("dtype")];
  const dtype = (newer ?? older)?.replace(/^torch\./, "");
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16" ? dtype : undefined;
}
