import { Buffer } from "node:buffer";
import { assemble, type Code, dict, int, list, pickle, storage, str, tensor } from "./pickle_writer.js";
import { type ZipEntry, zipFile } from "./zip_writer.js";

/** The bytes of 0, 1, 2, ... as floats. */
export function floats(count: number): Buffer {
  return Buffer.from(Float32Array.from({ length: count }, (_, i) => i).buffer);
}

export interface TorchZipParts {
  /** Of data.pkl: the code between protocol and STOP, or the whole. */
  object?: Code;
  data?: Uint8Array;
  /** Storage key to bytes; by default 4 floats in storage 0. */
  storages?: Record<string, Uint8Array>;
  /** Undefined: none, as before torch 2.1. */
  byteOrder?: string | undefined;
  more?: readonly ZipEntry[];
}

export function torchZipEntries(parts: TorchZipParts = {}): ZipEntry[] {
  const storages = parts.storages ?? { 0: floats(4) };
  return [
    { name: "archive/data.pkl", data: parts.data ?? pickle(parts.object ?? dict(["w", tensor()])) },
    ...("byteOrder" in parts && parts.byteOrder === undefined
      ? []
      : [{ name: "archive/byteorder", data: parts.byteOrder ?? "little" }]),
    ...Object.entries(storages).map(([key, data]) => ({ name: `archive/data/${key}`, data })),
    { name: "archive/version", data: "3\n" },
    ...(parts.more ?? []),
  ];
}

/** A file as torch.save writes it. */
export function torchZip(parts: TorchZipParts = {}): Buffer {
  return zipFile(torchZipEntries(parts));
}

/** The same archive with one record changed. */
export function torchZipWith(name: string, changes: Partial<ZipEntry>, parts: TorchZipParts = {}): Buffer {
  return zipFile(torchZipEntries(parts).map((entry) => (entry.name === name ? { ...entry, ...changes } : entry)));
}

export interface TorchLegacyParts {
  magic?: Code;
  version?: Code;
  machine?: Code;
  object?: Code;
  keys?: Code;
  /** What follows the pickles. */
  tail?: Uint8Array;
}

/** A file as torch.save wrote it before torch 1.6. */
export function torchLegacy(parts: TorchLegacyParts = {}): Buffer {
  return assemble(
    pickle(parts.magic ?? int(0x1950a86a20f9469cfc6cn)),
    pickle(parts.version ?? int(1001)),
    pickle(parts.machine ?? dict(["protocol_version", int(1001)], ["little_endian", "\x88"])),
    pickle(parts.object ?? dict(["w", tensor({ storage: legacyStorage("0", 4) })])),
    pickle(parts.keys ?? list(str("0"))),
    parts.tail ?? legacyTail(4n, floats(4)),
  );
}

/** Persistent ids of the old format have a sixth part: the view, mostly none. */
export function legacyStorage(key: string, elements: number | bigint, view: Code = "N", type?: string): Code {
  return storage(key, elements, type, view);
}

export function legacyTail(count: bigint, data: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeBigInt64LE(count);
  return Buffer.concat([head, data]);
}
