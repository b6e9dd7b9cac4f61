import { showValue } from "../../../base/text.js";
import { invalidRequest } from "../openai/errors.js";
import type { InferBody, TensorBody } from "./fields.js";

/** A tensor of an answer. */
export interface OutputTensor {
  name: string;
  shape: number[];
  datatype: "BYTES" | "FP32" | "INT64";
  /** Row by row. */
  data: (number | string)[];
}

/** Rows of a request, in one of their forms. */
export type InputRows = { texts: string[]; pairs?: string[] } | { ids: number[][] };

/**
 * The texts or token ids that a request's tensors hold.
 *
 * @throws ApiError for tensors of another kind, or whose data does not fit their shape.
 */
export function readInputs({ inputs }: InferBody, mostRows: number): InputRows {
  const rows = inputs.map((input, i) => ({ input, path: `inputs[${i}]` }));
  const [first, second] = rows as [Row, Row?];
  const rowCount = Math.max(0, ...inputs.map(({ shape }) => (shape.length === 0 ? 1 : (shape[0] as number))));
  if (rowCount > mostRows) {
    throw invalidRequest("invalid_value", `Expected at most ${mostRows} rows, found ${rowCount}.`, "inputs[0].shape");
  }
  if (first.input.datatype === "BYTES") {
    if (rows.length > 2) throw tooMany(rows.length);
    const texts = readTexts(first);
    if (second === undefined) return { texts };
    const pairs = readTexts(second);
    if (pairs.length === texts.length) return { texts, pairs };
    const message = `Expected ${second.path} to have ${texts.length} texts, as the first tensor has, found ${pairs.length}.`;
    throw invalidRequest("invalid_value", message, `${second.path}.shape`);
  }
  const mask = rows.find(({ input }) => input.name === "attention_mask");
  const others = rows.filter((row) => row !== mask && row.input.name !== "token_type_ids");
  if (others.length !== 1) throw tooMany(others.length);
  const ids = readMatrix(others[0] as Row);
  return { ids: mask === undefined ? ids : applyMask(ids, mask) };
}

interface Row {
  input: TensorBody;
  path: string;
}

function tooMany(count: number) {
  const expected =
    "a tensor of texts, two of them for pairs of texts, or one of token ids with or without an attention_mask";
  return invalidRequest("invalid_value", `Expected ${expected}, found ${count} tensors.`, "inputs");
}

/** Elements row by row, of data that is flat or nested. */
function flatten({ input: { data, shape }, path }: Row): unknown[] {
  if (!Array.isArray(data)) {
    throw invalidRequest(
      "invalid_type",
      `Expected ${path}.data to be an array, found ${showValue(data)}.`,
      `${path}.data`,
    );
  }
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  const depth = Math.max(1, shape.length);
  let elements: unknown[] = data;
  for (let level = 1; level < depth && elements.some(Array.isArray); level++) elements = elements.flat();
  if (elements.length === size) return elements;
  throw invalidRequest(
    "invalid_value",
    `Expected ${path}.data to have ${size} elements, as the shape [${shape.slice(0, 8).join(", ")}] says, found ${elements.length}.`,
    `${path}.data`,
  );
}

function readTexts(row: Row): string[] {
  const { input, path } = row;
  if (input.datatype !== "BYTES") {
    const message = `Expected ${path}.datatype to be BYTES, found ${showValue(input.datatype)}.`;
    throw invalidRequest("invalid_value", message, `${path}.datatype`);
  }
  const isBase64 = input.parameters?.content_type === "base64";
  return flatten(row).map((element, i) => {
    const where = `${path}.data[${i}]`;
    if (typeof element !== "string")
      throw invalidRequest("invalid_type", `Expected ${where} to be a string, found ${showValue(element)}.`, where);
    return isBase64 ? fromBase64(element, where) : element;
  });
}

function fromBase64(text: string, path: string): string {
  const isBase64 = /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0;
  try {
    if (isBase64) return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(text, "base64"));
  } catch {
    // Said below.
  }
  throw invalidRequest("invalid_value", `Expected ${path} to be UTF-8 text in base64.`, path);
}

function readMatrix(row: Row): number[][] {
  const { input, path } = row;
  const { datatype, shape } = input;
  if (datatype !== "INT64" && datatype !== "INT32") {
    const message = `Expected ${path}.datatype to be BYTES for texts, or INT64 or INT32 for token ids, found ${showValue(datatype)}.`;
    throw invalidRequest("invalid_value", message, `${path}.datatype`);
  }
  if (shape.length !== 1 && shape.length !== 2) {
    const message = `Expected ${path}.shape to have one or two dimensions, found ${shape.length}.`;
    throw invalidRequest("invalid_value", message, `${path}.shape`);
  }
  // Which ids the model has is checked where the model is known.
  const elements = flatten(row) as number[];
  const [count, width] = shape.length === 1 ? [1, elements.length] : (shape as [number, number]);
  return Array.from({ length: count }, (_, i) => elements.slice(i * width, (i + 1) * width));
}

/** Rows without their padding. */
function applyMask(ids: readonly number[][], maskRow: Row): number[][] {
  const mask = readMatrix(maskRow);
  const fits = mask.length === ids.length && mask.every((row, i) => row.length === ids[i]?.length);
  if (!fits) {
    const message = `Expected ${maskRow.path}.shape to be the shape of the token ids.`;
    throw invalidRequest("invalid_value", message, `${maskRow.path}.shape`);
  }
  return ids.map((row, i) => row.filter((_, k) => mask[i]?.[k] !== 0));
}

/**
 * The tensors that a request wants.
 *
 * @throws ApiError for the name of one that there is not.
 */
export function selectOutputs({ outputs }: InferBody, all: readonly OutputTensor[]): OutputTensor[] {
  if (outputs === undefined || outputs === null || outputs.length === 0) return [...all];
  return outputs.map(({ name }, i) => {
    const found = all.find((output) => output.name === name);
    if (found !== undefined) return found;
    const message = `There is no output ${showValue(name)}: outputs are ${all.map((one) => one.name).join(", ")}.`;
    throw invalidRequest("invalid_value", message, `outputs[${i}].name`);
  });
}
