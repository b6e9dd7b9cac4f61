/** Takes bytes from pieces of any size, as many as are asked for. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);

  constructor(pieces: AsyncIterable<Buffer>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** The next bytes: up to `most` of them, empty at the end. */
  async some(most: number): Promise<Buffer> {
    while (this.#piece.length === 0) {
      const next = await this.#pieces.next();
      if (next.done) return Buffer.alloc(0);
      this.#piece = next.value;
    }
    const taken = this.#piece.subarray(0, most);
    this.#piece = this.#piece.subarray(taken.length);
    return taken;
  }

  /** The next `count` bytes; fewer at the end. */
  async exactly(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let length = 0;
    while (length < count) {
      const part = await this.some(count - length);
      if (part.length === 0) break;
      parts.push(part);
      length += part.length;
    }
    return Buffer.concat(parts);
  }
}
