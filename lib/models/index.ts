import { type Logger, silentLogger } from "../base/logger.js";
import type { ModelSpec, WeightDtype } from "../native/spec.js";
import { biogpt } from "./architectures/biogpt.js";
import { bloom } from "./architectures/bloom.js";
import { codegen } from "./architectures/codegen.js";
import { falcon } from "./architectures/falcon.js";
import { gptBigcode } from "./architectures/gpt_bigcode.js";
import { gptNeo } from "./architectures/gpt_neo.js";
import { gptNeox } from "./architectures/gpt_neox.js";
import { gpt2 } from "./architectures/gpt2.js";
import { gptj } from "./architectures/gptj.js";
import { llama } from "./architectures/llama.js";
import { mpt } from "./architectures/mpt.js";
import { opt } from "./architectures/opt.js";
import { persimmon } from "./architectures/persimmon.js";
import { phi } from "./architectures/phi.js";
import { xglm } from "./architectures/xglm.js";
import { ConfigReader, show, unsupportedKey } from "./config.js";
import type { ModelDescription, ModelDescriptor } from "./descriptor.js";
import { judgeKeys } from "./keys.js";

export type { ModelSpec, WeightDtype, WeightPlan, WeightView } from "../native/spec.js";
export type { ModelDescription } from "./descriptor.js";
export { type ResolvedWeights, resolveWeights, roleTensors } from "./weights/resolve.js";

/** Every architecture there is. Adding one is its file and its line here. */
const descriptors: readonly ModelDescriptor[] = [
  ...[opt, gpt2, llama, bloom, falcon],
  ...[gptj, codegen, gptNeox, gptNeo, gptBigcode, mpt, phi, persimmon, xglm, biogpt],
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
  const { spec, body, head } = descriptor.describe(reader);
  checkClasses(reader, descriptor, spec);
  const keys = judgeKeys(reader, descriptor, spec);
  if (keys.unknown.length > 0) {
    const names = keys.unknown.join(", ");
    logger.warn(`config.json has keys that are not known here, and that transformers ignores: ${names}`);
  }
  for (const note of reader.notes) logger.warn(`config.json: ${note}`);
  const { bodyPrefixes, ignoredTensors } = descriptor;
  return { spec, storedDtype, keys, layout: { body, head, bodyPrefixes, ignoredTensors } };
}

function chooseDescriptor(config: ConfigReader): ModelDescriptor {
  const found = config.raw("model_type");
  const descriptor = descriptors.find(({ modelType }) => modelType === found);
  if (descriptor) return descriptor;
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
      throw unsupportedKey("architectures", found, expected, `${show(name)} is not a model that generates text here.`);
    }
    if (!spec.output.tied)
      throw unsupportedKey("architectures", found, expected, `${name} has no head to make logits with.`);
  }
}

function readDtype(config: ConfigReader): WeightDtype | undefined {
  const read = (key: string) => (config.raw(key) === null ? undefined : config.text(key, undefined));
  const [older, newer] = [read("torch_dtype"), read("dtype")];
  const dtype = (newer ?? older)?.replace(/^torch\./, "");
  return dtype === "float32" || dtype === "float16" || dtype === "bfloat16" ? dtype : undefined;
}
