import { isObject } from "../base/objects.js";
import { dtypeBytes, safetensorsDtypes } from "./dtypes.js";
import { checkpointError, quote } from "./errors.js";
import { contiguousStrides, countElements } from "./shapes.js";
import { kindOf, parseStrictJson, StrictJsonError } from "./strict_json.js";
import type { FileTensor, WeightFile } from "./weight_file.js";

/** The limit of the safetensors library (MAX_HEADER_SIZE in its tensor.rs). */
const kMaxHeaderBytes = 100_000_000;

/** Bytes of the header's length, a little-endian integer at the start of the file. */
const kLengthBytes = 8;

/**
 * The tensors of a safetensors file, in the order of their bytes. Holds the file to all that the safetensors library
 * does (`Metadata::validate` in its tensor.rs): data without holes or overlaps, from the header to the end of the file.
 *
 * @throws ERR_CHECKPOINT
 */
export async function readSafetensors(file: WeightFile): Promise<FileTensor[]> {
  const place = { file: file.path };
  if (file.bytes < kLengthBytes) {
    throw checkpointError(place, `is ${file.bytes} bytes long, too short for a safetensors header: it is truncated`);
  }
  const headerBytes = (await file.read(0, kLengthBytes)).readBigUInt64LE();
  if (headerBytes > kMaxHeaderBytes) {
    throw checkpointError(
      place,
      `claims a header of ${headerBytes} bytes, the limit is ${kMaxHeaderBytes}: not a safetensors file, or damaged`,
    );
  }
  const dataStart = kLengthBytes + Number(headerBytes);
  if (dataStart > file.bytes) {
    throw checkpointError(
      place,
      `claims a header of ${headerBytes} bytes, longer than the file of ${file.bytes}: it is truncated or damaged`,
    );
  }
  const header = parseHeader(file.path, await file.read(kLengthBytes, Number(headerBytes)));
  const spans: Span[] = [];
  for (const [name, info] of Object.entries(header)) {
    if (name === "__metadata__") checkMetadata(file.path, info);
    else spans.push(readSpan(file.path, name, info, file.bytes - dataStart));
  }
  // By bytes, and not as the header names them: JavaScript moves keys that look like numbers to the front.
  spans.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(file.path, spans, file.bytes - dataStart);
  return spans.map(({ name, dtype, shape, begin }) => ({
    name,
    dtype,
    shape,
    strides: contiguousStrides(shape),
    byteOffset: dataStart + begin,
  }));
}

interface Span extends Pick<FileTensor, "name" | "dtype" | "shape"> {
  /** From the start of the data, in bytes. */
  begin: number;
  end: number;
}

function parseHeader(file: string, bytes: Uint8Array): Record<string, unknown> {
  try {
    return parseStrictJson(bytes);
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw checkpointError({ file }, `its safetensors header ${error.message}`);
  }
}

function checkMetadata(file: string, metadata: unknown): void {
  if (
    metadata === null ||
    (isObject(metadata) && Object.values(metadata).every((value) => typeof value === "string"))
  ) {
    return;
  }
  throw checkpointError({ file }, "its safetensors header has a __metadata__ that is not an object of strings");
}

function readSpan(file: string, name: string, info: unknown, dataBytes: number): Span {
  const place = { file, tensor: name };
  if (!isObject(info)) {
    throw checkpointError(place, `its header entry is ${kindOf(info)}, expected {dtype, shape, data_offsets}`);
  }
  const dtype = readDtype(file, name, info.dtype);
  const shape = readShape(file, name, info.shape);
  const offsets = info.data_offsets;
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw checkpointError(place, `has data_offsets ${quote(JSON.stringify(offsets) ?? "none")}, expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw checkpointError(place, `has data_offsets that end (${end}) before they begin (${begin})`);
  if (end > dataBytes) {
    throw checkpointError(
      place,
      `ends at byte ${end} of the data, which has ${dataBytes}: the file is truncated or its header is wrong`,
    );
  }
  const elements = countElements(shape);
  const expected = elements === undefined ? Number.NaN : elements * dtypeBytes[dtype];
  if (!(expected <= Number.MAX_SAFE_INTEGER)) throw checkpointError(place, `has a shape [${shape}] that overflows`);
  if (end - begin !== expected) {
    throw checkpointError(place, `has ${end - begin} bytes, but shape [${shape}] of ${dtype} needs ${expected}`);
  }
  return { name, dtype, shape, begin, end };
}

function readDtype(file: string, tensor: string, name: unknown) {
  const dtype = typeof name === "string" ? safetensorsDtypes.get(name) : undefined;
  if (dtype !== undefined) return dtype;
  const shown = quote(typeof name === "string" ? name : (JSON.stringify(name) ?? "none"));
  throw checkpointError({ file, tensor }, `has unknown dtype ${shown}`);
}

function readShape(file: string, tensor: string, shape: unknown): number[] {
  if (Array.isArray(shape) && shape.every(isCount)) return shape as number[];
  const shown = quote(JSON.stringify(shape) ?? "none");
  throw checkpointError({ file, tensor }, `has shape ${shown}, expected an array of whole numbers of at least 0`);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && !Object.is(value, -0);
}

function checkCoverage(file: string, spans: readonly Span[], dataBytes: number): void {
  let covered = 0;
  let previous = "the header";
  for (const { name, begin, end } of spans) {
    if (begin < covered) throw checkpointError({ file, tensor: name }, `overlaps the bytes of ${previous}`);
    if (begin > covered) {
      throw checkpointError(
        { file, tensor: name },
        `begins at byte ${begin} of the data, leaving a hole of ${begin - covered} bytes after ${previous}`,
      );
    }
    covered = end;
    previous = quote(name);
  }
  if (covered !== dataBytes) {
    throw checkpointError(
      { file },
      `has ${dataBytes - covered} bytes after its last tensor that no tensor uses: it is damaged or not complete`,
    );
  }
}
