import { isObject } from "../../base/objects.js";
import type { Activation, ModelSpec, NormSpec, OutputSpec, TransformSpec } from "../../native/spec.js";
import type { ConfigReader } from "../config.js";
import { linear, type ModelDescriptor, type ModelLabels, norm, type Task, type WeightPlace } from "../descriptor.js";
import { limits } from "../limits.js";

/** What stands behind a body: a piece of the spec, and the places of its weights. */
export interface Head {
  output: OutputSpec;
  /** In the body: a pooler. */
  body: WeightPlace[];
  /** Beside it. */
  head: WeightPlace[];
}

/** The sizes that heads depend on. */
export interface HeadSizes {
  hidden: number;
  /** Of a token's embedding. */
  width: number;
  vocabulary: number;
  /** Of the body's hidden states, where they have one of their own. */
  finalNorm?: NormSpec;
}

/** A dense layer ahead of a head. */
export interface DenseLayer {
  tensor: string;
  activation: Activation;
  /** Default true. */
  bias?: boolean;
  norm?: { tensor: string; spec: NormSpec; bias?: boolean };
  /** It stands in the body, as poolers do. */
  inBody?: boolean;
}

/** Number of classes, as transformers counts them: `id2label` where there is one, else `num_labels`, else 2. */
function countLabels(config: ConfigReader): number {
  const names = config.raw("id2label");
  if (isObject(names) && Object.keys(names).length > 0) return Object.keys(names).length;
  return config.integer("num_labels", { maximum: limits.vocabulary, nullable: true, unset: 2 });
}

/** Names of classes, and how scores are made of their outputs. */
export function readLabels(config: ConfigReader, task: Task, { output }: ModelSpec): ModelLabels {
  const count = "count" in output ? output.count : 0;
  const given: unknown = config.peek("id2label");
  const names = Array.from({ length: count }, (_, index) => {
    const name: unknown = isObject(given) ? given[String(index)] : undefined;
    // Data sets whose classes are numbers (stars, say) leave numbers here, and transformers names them so.
    return ["string", "number", "boolean"].includes(typeof name) ? String(name) : `LABEL_${index}`;
  });
  const problemType = config.peek("problem_type") ?? undefined;
  const known = ["regression", "single_label_classification", "multi_label_classification"] as const;
  if (problemType !== undefined && !known.some((name) => name === problemType) && output.kind === "classes") {
    throw config.wrong("problem_type", `null or one of ${known.join(", ")}`);
  }
  return { task, names, problemType: known.find((name) => name === problemType) };
}

function transformOf({ activation, norm: behind }: DenseLayer): TransformSpec {
  return { activation, ...(behind ? { norm: behind.spec } : {}) };
}

function densePlaces(dense: DenseLayer, out: number, hidden: number): WeightPlace[] {
  return [
    ...linear("head.dense", dense.tensor, out, hidden, dense.bias ?? true),
    ...(dense.norm ? norm("head.norm", dense.norm.tensor, out, dense.norm.bias ?? true) : []),
  ];
}

const normOf = ({ finalNorm }: HeadSizes) => (finalNorm ? { norm: finalNorm } : {});

/** Hidden states, and what a pooler makes of the first token's where there is one. */
function hiddenHead(sizes: HeadSizes, pooler?: DenseLayer): Head {
  return {
    output: { kind: "hidden", ...normOf(sizes), ...(pooler ? { pooler: transformOf(pooler) } : {}) },
    body: pooler ? densePlaces(pooler, sizes.hidden, sizes.hidden) : [],
    head: [],
  };
}

/** Classes of a whole sequence. */
function classesHead(
  config: ConfigReader,
  sizes: HeadSizes,
  out: string,
  { dense, pick = "first", bias = true }: { dense?: DenseLayer; pick?: "first" | "last" | "mean"; bias?: boolean } = {},
): Head {
  const count = countLabels(config);
  const places = dense ? densePlaces(dense, sizes.hidden, sizes.hidden) : [];
  return {
    output: { kind: "classes", pick, count, ...normOf(sizes), ...(dense ? { transform: transformOf(dense) } : {}) },
    body: dense?.inBody ? places : [],
    head: [...(dense?.inBody ? [] : places), ...linear("head", out, count, sizes.hidden, bias)],
  };
}

/** Classes of each token, or where an answer begins and ends. */
function tokenClassesHead(
  config: ConfigReader,
  sizes: HeadSizes,
  { out, dense }: { out: string; dense?: DenseLayer },
): Head {
  const count = countLabels(config);
  return {
    output: { kind: "token-classes", count, ...normOf(sizes), ...(dense ? { transform: transformOf(dense) } : {}) },
    body: [],
    head: [
      ...(dense ? densePlaces(dense, sizes.hidden, sizes.hidden) : []),
      ...linear("head", out, count, sizes.hidden, true),
    ],
  };
}

/** Scores of all tokens of the vocabulary, for each token: a dense layer, and a matrix that usually is the embedding. */
function maskedHead(config: ConfigReader, sizes: HeadSizes, names: MaskedNames): Head {
  const { width, vocabulary, hidden } = sizes;
  return {
    output: {
      kind: "logits",
      tied: config.flag("tie_word_embeddings", true),
      ...normOf(sizes),
      transform: transformOf(names.dense),
    },
    body: [],
    head: [
      ...densePlaces(names.dense, width, hidden),
      ...linear("head", names.decoder, vocabulary, width, false),
      ...(names.bias === undefined
        ? []
        : [{ role: "head.bias", tensor: names.bias, shape: [vocabulary], view: [] } satisfies WeightPlace]),
    ],
  };
}

/** How a head of scores of all tokens is called. */
interface MaskedNames {
  dense: DenseLayer;
  decoder: string;
  bias: string | undefined;
}

/** How an encoder's heads are called. */
export interface HeadNames {
  pooler?: DenseLayer;
  classes: { dense?: DenseLayer; out: string; pick?: "first" | "mean" };
  /** Default: "classifier" alone. */
  tokenClasses?: { dense?: DenseLayer; out: string };
  /** Default: "qa_outputs" alone. */
  answers?: { dense?: DenseLayer; out: string };
  masked: MaskedNames;
}

/** BERT's pooler, which heads of classes may read as well. */
export const bertPooler = { tensor: "pooler.dense", activation: "tanh", inBody: true } as const satisfies DenseLayer;

/** The usual names of a head of scores of all tokens; `transform` and a dot may stand ahead of those of its dense layer. */
export function maskedNames(
  stem: string,
  { activation, layerNorm }: { activation: Activation; layerNorm: NormSpec },
  { transform = "", norm: normName = "LayerNorm" }: { transform?: "" | "transform."; norm?: string } = {},
): MaskedNames {
  const inside = `${stem}.${transform}`;
  return {
    dense: { tensor: `${inside}dense`, activation, norm: { tensor: inside + normName, spec: layerNorm } },
    decoder: `${stem}.decoder`,
    bias: `${stem}.bias`,
  };
}

/** RoBERTa's heads, which MPNet has too. */
export function robertaHeads(layerNorm: NormSpec): HeadNames {
  return {
    pooler: bertPooler,
    classes: { dense: { tensor: "classifier.dense", activation: "tanh" }, out: "classifier.out_proj" },
    masked: maskedNames("lm_head", { activation: "gelu", layerNorm }, { norm: "layer_norm" }),
  };
}

/** The head of an encoder of this task. */
export function chooseHead(config: ConfigReader, task: Task, sizes: HeadSizes, names: HeadNames): Head {
  switch (task) {
    case "sequence-classification":
      return classesHead(config, sizes, names.classes.out, names.classes);
    case "token-classification":
      return tokenClassesHead(config, sizes, names.tokenClasses ?? { out: "classifier" });
    case "question-answering":
      return tokenClassesHead(config, sizes, names.answers ?? { out: "qa_outputs" });
    case "masked-lm":
      return maskedHead(config, sizes, names.masked);
    default:
      return hiddenHead(sizes, names.pooler);
  }
}

/** A family of decoders that may also have a head of classes on the last token, as transformers builds it for all of them. */
export function withClassifier(descriptor: ModelDescriptor): ModelDescriptor {
  const classifier = `${descriptor.classes[0]?.replace(/(ForCausalLM|LMHeadModel)$/, "")}ForSequenceClassification`;
  return {
    ...descriptor,
    classes: [...descriptor.classes, classifier],
    tasks: { ...descriptor.tasks, [classifier]: "sequence-classification" },
    describe(config, task) {
      const { spec, body, head } = descriptor.describe(config, task);
      if (task !== "sequence-classification") return { spec, body, head };
      const finalNorm = spec.output.norm;
      // Behind the projection, where there is one (OPT).
      const sizes = { hidden: spec.embedding.width, width: spec.embedding.width, vocabulary: spec.vocabSize };
      const classes = classesHead(config, { ...sizes, ...(finalNorm ? { finalNorm } : {}) }, "score", {
        pick: "last",
        bias: false,
      });
      return { spec: { ...spec, output: classes.output }, body, head: classes.head };
    },
  };
}
