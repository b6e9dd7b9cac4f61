import { Buffer } from "node:buffer";

/** Pickle code: text stands for its latin-1 bytes. */
export type Code = string | Uint8Array | readonly Code[];

export function assemble(...parts: readonly Code[]): Buffer {
  return Buffer.concat(parts.map(bytesOf));
}

function bytesOf(part: Code): Uint8Array {
  if (typeof part === "string") return Buffer.from(part, "latin1");
  return part instanceof Uint8Array ? part : Buffer.concat((part as readonly Code[]).map(bytesOf));
}

/** A whole pickle of protocol 2. */
export function pickle(...parts: readonly Code[]): Buffer {
  return assemble("\x80\x02", ...parts, ".");
}

export function str(text: string): Code {
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(5, "X");
  head.writeUInt32LE(bytes.length, 1);
  return [head, bytes];
}

/** BININT where it fits, else LONG1. */
export function int(value: number | bigint): Code {
  if (value >= -(2 ** 31) && value < 2 ** 31) {
    const code = Buffer.alloc(5, "J");
    code.writeInt32LE(Number(value), 1);
    return code;
  }
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 8n) {
    bytes.push(Number(rest & 0xffn));
    if ((rest === 0n || rest === -1n) && bytes.length > 8) break;
  }
  return Uint8Array.from([0x8a, bytes.length, ...bytes]);
}

export function tuple(...items: readonly Code[]): Code {
  return ["(", ...items, "t"];
}

export function list(...items: readonly Code[]): Code {
  return ["](", ...items, "e"];
}

export function dict(...pairs: readonly (readonly [string, Code])[]): Code {
  return ["}(", ...pairs.map(([key, value]) => [str(key), value]), "u"];
}

export function global(module: string, name: string): Code {
  return `c${module}\n${name}\n`;
}

export function call(callable: Code, ...args: readonly Code[]): Code {
  return [callable, tuple(...args), "R"];
}

export const orderedDict: Code = [global("collections", "OrderedDict"), ")R"];

/** A persistent id of torch. */
export function storage(key: string, elements: number | bigint, type = "FloatStorage", view?: Code): Code {
  const id = [str("storage"), global("torch", type), str(key), str("cpu"), int(elements)];
  return [tuple(...id, ...(view === undefined ? [] : [view])), "Q"];
}

export interface TensorParts {
  key?: string;
  elements?: number | bigint;
  type?: string;
  storage?: Code;
  offset?: Code;
  shape?: Code;
  strides?: Code;
  metadata?: Code;
}

/** A tensor as torch.save writes it: by default 4 floats in storage 0, as (2, 2). */
export function tensor(parts: TensorParts = {}): Code {
  return call(
    global("torch._utils", "_rebuild_tensor_v2"),
    parts.storage ?? storage(parts.key ?? "0", parts.elements ?? 4, parts.type),
    parts.offset ?? int(0),
    parts.shape ?? tuple(int(2), int(2)),
    parts.strides ?? tuple(int(2), int(1)),
    "\x89",
    orderedDict,
    ...(parts.metadata === undefined ? [] : [parts.metadata]),
  );
}
