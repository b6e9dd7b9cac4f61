import { freemem } from "node:os";

/** Bytes that this process can still get: the machine's available memory, or what its container leaves. */
export function availableMemoryBytes(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  // Without a limit the runtime answers 0, or a number beyond any memory.
  const inContainer = limit > 0 && limit < 2 ** 52 ? process.availableMemory() : Number.POSITIVE_INFINITY;
  return Math.min(freemem(), inContainer);
}

/** A size for people: "1.50 GB". Decimal units, as everywhere in shardspeed. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit]}`;
}
