import { constants } from "node:buffer";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { availableMemoryBytes } from "../base/machine.js";
import { formatBytes } from "../base/memory.js";
import { adviseName } from "../base/nearest.js";
import { unknownName } from "../base/option_reader.js";
import { checkTokenIds } from "./generation_options.js";
import type { ModelInfo } from "./model_info.js";
import { computeOutputs, type Outputs } from "./outputs.js";
import type { Session } from "./session.js";

/** What forward() takes. */
export interface ForwardInputs {
  /** (batch, sequence): token ids. Rows of equal length. */
  inputIds: readonly (readonly number[])[];
  /** (batch, sequence): 1 for tokens, 0 for padding, before or after the tokens. Default: all 1. */
  attentionMask?: readonly (readonly number[])[];
  /** (batch, sequence): which of several texts each token is of, for models with token types. Default: all 0. */
  tokenTypeIds?: readonly (readonly number[])[];
}

/** Rows of numbers. */
export interface Tensor {
  /** Row-major. */
  data: Float32Array;
  /** Sizes, the outermost first. */
  dims: number[];
}

/** Logits of a batch. */
export interface Logits extends Tensor {
  /**
   * [batch, sequence, vocab]; [batch, sequence, classes] where each token has classes. Of classes of the whole sequence there are two numbers at
   * run time, [batch, classes].
   */
  dims: [number, number, number];
}

/** What a model computes of a batch, with the dims of transformers. Which of it there is depends on the model's head. */
export interface ForwardResult {
  /** What the head makes. There is none of a model without a head, an encoder for embeddings. */
  logits: Logits;
  /** Of models without a head: [batch, sequence, hidden]; zeros at padding. */
  lastHiddenState: Tensor;
  /** Of models without a head that have a pooler: [batch, hidden]. */
  poolerOutput: Tensor;
  /** Of models that answer questions: [batch, sequence], the two columns of the logits. */
  startLogits: Tensor;
  /** The second column. */
  endLogits: Tensor;
}

/** A row without its padding. */
interface Row {
  tokens: number[];
  types: number[] | undefined;
  /** Padding before the tokens. */
  offset: number;
}

/** What is computed of a model, and how wide it is. */
type Shape = Pick<ModelInfo, "head" | "vocabSize" | "hiddenSize" | "tokenTypes" | "classes" | "pooler" | "task">;

/** Computes a batch. Each row is a sequence of its own, so padding costs nothing and does not change the results. */
export async function runForward(
  session: Session,
  inputs: ForwardInputs,
  model: Shape,
  contextTokens: number,
): Promise<ForwardResult> {
  const rows = readRows(inputs, model);
  const sequence = inputs.inputIds[0]?.length ?? 0;
  for (const [i, row] of rows.entries()) {
    if (row.tokens.length <= contextTokens) continue;
    throw new ShardspeedError(
      "ERR_CONTEXT_LENGTH",
      `Found ${row.tokens.length} tokens in inputIds[${i}], expected no more than ${contextTokens}.`,
    );
  }
  const isHidden = model.head === "hidden";
  const columns = isHidden ? model.hiddenSize : model.head === "logits" ? model.vocabSize : model.classes;
  const perToken = model.head !== "classes";
  checkMemory(rows.length, perToken ? sequence : 1, columns);
  const wanted = !isHidden ? "head" : model.pooler ? "hidden and head" : "hidden";
  const computed = await computeOutputs(
    session,
    rows.map(({ tokens, types }) => ({ tokens, tokenTypes: types, wanted })),
  );
  const main = perToken
    ? join(rows, computed, { key: isHidden ? "hidden" : "head", sequence, columns })
    : stack(computed, columns);
  if (!isHidden) return { logits: main, ...splitAnswers(main, model) } as ForwardResult;
  return {
    lastHiddenState: main,
    ...(model.pooler ? { poolerOutput: stack(computed, columns) } : {}),
  } as ForwardResult;
}

/** Rows of each token, with zeros for padding. */
function join(
  rows: readonly Row[],
  computed: readonly Outputs[],
  { key, sequence, columns }: { key: keyof Outputs; sequence: number; columns: number },
): Tensor {
  const dims = [rows.length, sequence, columns];
  const [only] = computed;
  if (rows.length === 1 && only && rows[0]?.tokens.length === sequence) return { data: only[key], dims };
  const data = new Float32Array(rows.length * sequence * columns);
  for (const [i, outputs] of computed.entries()) {
    data.set(outputs[key], (i * sequence + (rows[i]?.offset ?? 0)) * columns);
  }
  return { data, dims };
}

/** One row of the head for each sequence. */
function stack(computed: readonly Outputs[], columns: number): Tensor {
  const data = new Float32Array(computed.length * columns);
  for (const [i, { head }] of computed.entries()) data.set(head, i * columns);
  return { data, dims: [computed.length, columns] };
}

function splitAnswers({ data, dims }: Tensor, { task }: Shape): Partial<ForwardResult> {
  const [batch = 0, sequence = 0, columns] = dims;
  if (task !== "question-answering" || columns !== 2) return {};
  const column = (index: number) => data.filter((_, at) => at % 2 === index);
  return {
    startLogits: { data: column(0), dims: [batch, sequence] },
    endLogits: { data: column(1), dims: [batch, sequence] },
  };
}

function readRows(inputs: ForwardInputs, model: Shape): Row[] {
  const known = ["inputIds", "attentionMask", "tokenTypeIds"];
  if (typeof inputs !== "object" || inputs === null) throw invalidArgument("inputs", "an object with inputIds", inputs);
  for (const key of Object.keys(inputs)) {
    if (!known.includes(key)) throw unknownName("forward input", key, adviseName(key, known));
  }
  const { inputIds, attentionMask, tokenTypeIds } = inputs;
  if (tokenTypeIds !== undefined && model.tokenTypes === 0)
    throw invalidArgument("tokenTypeIds", "absent: this model takes none", tokenTypeIds);
  checkRectangle(inputIds, "inputIds");
  const sequence = inputIds[0]?.length as number;
  for (const [i, row] of inputIds.entries()) {
    if (row.length !== sequence) {
      throw invalidArgument(
        `inputIds[${i}]`,
        `${sequence} ids, as inputIds[0] has: pad shorter rows and mask the padding`,
        row,
      );
    }
  }
  if (tokenTypeIds !== undefined) checkBeside(tokenTypeIds, "tokenTypeIds", inputIds);
  if (attentionMask !== undefined) checkBeside(attentionMask, "attentionMask", inputIds);
  return inputIds.map((ids, i) => {
    const mask = attentionMask?.[i] ?? ids.map(() => 1);
    return toRow({ ids, mask, types: tokenTypeIds?.[i] }, i, model);
  });
}

function checkBeside(value: readonly (readonly number[])[], name: string, inputIds: ForwardInputs["inputIds"]): void {
  checkRectangle(value, name);
  if (value.length !== inputIds.length) throw invalidArgument(name, `${inputIds.length} rows, as inputIds`, value);
}

function checkRectangle(value: unknown, name: string): void {
  if (!Array.isArray(value) || value.length === 0 || !value.every((row) => Array.isArray(row) && row.length > 0)) {
    throw invalidArgument(name, "an array of rows, neither empty", value);
  }
}

function toRow(
  { ids, mask, types }: Record<"ids" | "mask", readonly number[]> & { types: readonly number[] | undefined },
  index: number,
  { vocabSize, tokenTypes }: Shape,
): Row {
  const name = `attentionMask[${index}]`;
  if (mask.length !== ids.length || !mask.every((bit) => bit === 0 || bit === 1)) {
    throw invalidArgument(name, `${ids.length} numbers 0 or 1`, mask);
  }
  const first = mask.indexOf(1);
  const last = mask.lastIndexOf(1);
  if (first < 0 || mask.slice(first, last + 1).includes(0)) {
    throw invalidArgument(name, "ones for at least one token, with zeros at the ends only", mask);
  }
  const tokens = ids.slice(first, last + 1);
  checkTokenIds(tokens, vocabSize, `inputIds[${index}]`);
  const isType = (type: number) => Number.isInteger(type) && type >= 0 && type < tokenTypes;
  if (types !== undefined && (types.length !== ids.length || !types.every(isType))) {
    throw invalidArgument(`tokenTypeIds[${index}]`, `${ids.length} integers from 0 to ${tokenTypes - 1}`, types);
  }
  return { tokens, types: types?.slice(first, last + 1), offset: first };
}

function checkMemory(batch: number, sequence: number, columns: number): void {
  const resultBytes = batch * sequence * columns * Float32Array.BYTES_PER_ELEMENT;
  // The rows come one by one and are copied into the result.
  const neededBytes = batch > 1 ? 2 * resultBytes : resultBytes;
  const availableBytes = Math.min(availableMemoryBytes(), constants.MAX_LENGTH);
  if (neededBytes > availableBytes) {
    throw new ShardspeedError(
      "ERR_OUT_OF_MEMORY",
      `Outputs of ${batch} x ${sequence} x ${columns} need ${formatBytes(neededBytes)}, but ${formatBytes(availableBytes)} are available. ` +
        "Pass fewer or shorter rows at a time.",
    );
  }
}
