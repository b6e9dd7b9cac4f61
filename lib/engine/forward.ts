import { constants } from "node:buffer";
import { invalidArgument, ShardspeedError } from "../base/errors.js";
import { availableMemoryBytes } from "../base/machine.js";
import { formatBytes } from "../base/memory.js";
import { adviseName } from "../base/nearest.js";
import { unknownName } from "../base/option_reader.js";
import { toForwardRequest } from "./generation.js";
import { checkTokenIds } from "./generation_options.js";
import type { Session } from "./session.js";

/** What forward() takes. */
export interface ForwardInputs {
  /** (batch, sequence): token ids. Rows of equal length. */
  inputIds: readonly (readonly number[])[];
  /** (batch, sequence): 1 for tokens, 0 for padding, before or after the tokens. Default: all 1. */
  attentionMask?: readonly (readonly number[])[];
  /** For models with token types; no model of this version has them. */
  tokenTypeIds?: readonly (readonly number[])[];
}

/** A matrix of logits for each row of the batch. */
export interface Logits {
  /** Row-major. */
  data: Float32Array;
  /** [batch, sequence, vocab] */
  dims: [number, number, number];
}

/** What forward() gives. */
export interface ForwardResult {
  /** Logits of every position. */
  logits: Logits;
}

/** A row without its padding. */
interface Row {
  tokens: number[];
  /** Padding before the tokens. */
  offset: number;
}

/** Computes the logits of a batch. Each row is a sequence of its own, so padding costs nothing and does not change the logits. */
export async function runForward(
  session: Session,
  inputs: ForwardInputs,
  vocabSize: number,
  contextTokens: number,
): Promise<ForwardResult> {
  const rows = readRows(inputs, vocabSize);
  const sequence = inputs.inputIds[0]?.length ?? 0;
  for (const [i, row] of rows.entries()) {
    if (row.tokens.length <= contextTokens) continue;
    throw new ShardspeedError(
      "ERR_CONTEXT_LENGTH",
      `Found ${row.tokens.length} tokens in inputIds[${i}], expected no more than ${contextTokens}.`,
    );
  }
  const dims: [number, number, number] = [rows.length, sequence, vocabSize];
  checkMemory(dims);
  const only = rows[0];
  if (rows.length === 1 && only?.tokens.length === sequence) {
    return { logits: { data: await submitForward(session, only.tokens), dims } };
  }
  const data = new Float32Array(rows.length * sequence * vocabSize);
  await Promise.all(
    rows.map(async (row, i) => {
      data.set(await submitForward(session, row.tokens), (i * sequence + row.offset) * vocabSize);
    }),
  );
  return { logits: { data, dims } };
}

function submitForward(session: Session, tokens: number[]): Promise<Float32Array> {
  return new Promise((resolve, reject) => {
    session.submit(toForwardRequest(tokens), { onLogits: resolve, onFailure: reject, onToken() {}, onDone() {} });
  });
}

function readRows(inputs: ForwardInputs, vocabSize: number): Row[] {
  const known = ["inputIds", "attentionMask", "tokenTypeIds"];
  if (typeof inputs !== "object" || inputs === null) throw invalidArgument("inputs", "an object with inputIds", inputs);
  for (const key of Object.keys(inputs)) {
    if (!known.includes(key)) throw unknownName("forward input", key, adviseName(key, known));
  }
  const { inputIds, attentionMask, tokenTypeIds } = inputs;
  if (tokenTypeIds !== undefined) throw invalidArgument("tokenTypeIds", "absent: this model takes none", tokenTypeIds);
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
  if (attentionMask === undefined) {
    return inputIds.map((ids, i) =>
      toRow(
        ids,
        ids.map(() => 1),
        i,
        vocabSize,
      ),
    );
  }
  checkRectangle(attentionMask, "attentionMask");
  if (attentionMask.length !== inputIds.length)
    throw invalidArgument("attentionMask", `${inputIds.length} rows, as inputIds`, attentionMask);
  return inputIds.map((ids, i) => toRow(ids, attentionMask[i] as readonly number[], i, vocabSize));
}

function checkRectangle(value: unknown, name: string): void {
  if (!Array.isArray(value) || value.length === 0 || !value.every((row) => Array.isArray(row) && row.length > 0)) {
    throw invalidArgument(name, "an array of rows, neither empty", value);
  }
}

function toRow(ids: readonly number[], mask: readonly number[], index: number, vocabSize: number): Row {
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
  return { tokens, offset: first };
}

function checkMemory([batch, sequence, vocabSize]: [number, number, number]): void {
  const resultBytes = batch * sequence * vocabSize * Float32Array.BYTES_PER_ELEMENT;
  // The rows come one by one and are copied into the result.
  const neededBytes = batch > 1 ? 2 * resultBytes : resultBytes;
  const availableBytes = Math.min(availableMemoryBytes(), constants.MAX_LENGTH);
  if (neededBytes > availableBytes) {
    throw new ShardspeedError(
      "ERR_OUT_OF_MEMORY",
      `Logits of ${batch} x ${sequence} x ${vocabSize} need ${formatBytes(neededBytes)}, but ${formatBytes(availableBytes)} are available. ` +
        "Pass fewer or shorter rows at a time.",
    );
  }
}
