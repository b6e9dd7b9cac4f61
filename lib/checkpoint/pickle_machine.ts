import { PickleError, type PickleGlobal, PickleTruncated, PickleTuple, type PickleValue } from "./pickle_values.js";

/**
 * Limits that no real checkpoint comes near (a model of 100,000 tensors takes about 25 MB and 1 million objects), and
 * that keep a hostile one from taking all memory or time. Nothing here recurses, so depth costs no more than length.
 */
export const pickleLimits = {
  bytes: 64 * 1024 * 1024,
  objects: 2_000_000,
  stack: 2_000_000,
  memo: 4_000_000,
  marks: 10_000,
  opcodes: 40_000_000,
  integerBytes: 256,
} as const;

/** What a pickle may refer to beyond plain values. All of these may throw PickleError. */
export interface PickleEnvironment {
  /** The meaning of `module.name`. */
  findGlobal(module: string, name: string): PickleGlobal;
  /** The value that stands for a persistent id. */
  loadPersistent(id: PickleValue): PickleValue;
  /** What a call of `callable` makes. */
  reduce(callable: PickleValue, args: PickleTuple): PickleValue;
  /** `object` with `state` set on it. */
  build(object: PickleValue, state: PickleValue): PickleValue;
}

/** Stack, memo and input of one pickle. */
export class PickleMachine {
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #objects = 0;

  constructor(
    readonly bytes: Buffer,
    readonly environment: PickleEnvironment,
    public position: number,
  ) {}

  // Input

  /** The position before the next `length` bytes, which are then consumed. */
  take(length: number): number {
    const start = this.position;
    if (length > this.bytes.length - start) throw new PickleTruncated();
    this.position = start + length;
    return start;
  }

  u8(): number {
    return this.bytes.readUInt8(this.take(1));
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.take(2));
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.take(4));
  }

  /** A length of 8 bytes. One beyond 2^53 ends as truncated, as no input is that long. */
  u64(): number {
    return Number(this.bytes.readBigUInt64LE(this.take(8)));
  }

  slice(length: number): Buffer {
    const start = this.take(length);
    return this.bytes.subarray(start, start + length);
  }

  /** The text up to the next line end, without it, in latin-1. */
  line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end === -1) throw new PickleTruncated();
    const text = this.bytes.toString("latin1", this.position, end);
    this.position = end + 1;
    return text;
  }

  // Stack

  push(value: PickleValue): void {
    if (this.#stack.length === pickleLimits.stack) throw new PickleError("needs too deep a stack");
    this.#stack.push(value);
  }

  /** Pushes a value that takes memory of its own. */
  pushNew(value: PickleValue): void {
    if (++this.#objects > pickleLimits.objects) {
      throw new PickleError(`makes more than ${pickleLimits.objects} objects`);
    }
    this.push(value);
  }

  pop(): PickleValue {
    this.#requireDepth(1);
    return this.#stack.pop() as PickleValue;
  }

  top(): PickleValue {
    this.#requireDepth(1);
    return this.#stack.at(-1) as PickleValue;
  }

  /** The topmost `count` values, in the order they were pushed. */
  popMany(count: number): PickleValue[] {
    this.#requireDepth(count);
    return this.#stack.splice(this.#stack.length - count, count);
  }

  popTuple(): PickleTuple {
    const value = this.pop();
    if (!(value instanceof PickleTuple)) throw new PickleError("calls something with arguments that are not a tuple");
    return value;
  }

  mark(): void {
    if (this.#marks.length === pickleLimits.marks) throw new PickleError("is nested too deep");
    this.#marks.push(this.#stack.length);
  }

  /** All values above the last mark, which goes too. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw new PickleError("lacks a mark");
    return this.#stack.splice(mark);
  }

  /** Drops the last mark where nothing is above it, or the topmost value. */
  discard(): void {
    if (this.#marks.length > 0 && this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.pop();
  }

  /** Values below the last mark belong to someone else. */
  #requireDepth(count: number): void {
    if (this.#stack.length - (this.#marks.at(-1) ?? 0) < count)
      throw new PickleError("takes a value from an empty stack");
  }

  // Memo

  memoize(index = this.#memo.size): void {
    const value = this.top();
    this.#memo.set(index, value);
    if (this.#memo.size > pickleLimits.memo) throw new PickleError(`remembers more than ${pickleLimits.memo} values`);
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw new PickleError(`recalls value ${index}, which it never remembered`);
    this.push(value);
  }
}
