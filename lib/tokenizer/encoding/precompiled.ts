/**
 * SentencePiece's `precompiled_charsmap`: a double-array trie from UTF-8 to places in a block of texts that end in NUL.
 *
 * @param encoded Base64, as in tokenizer.json, or the bytes, as in tokenizer.model.
 */
export function createCharsMap(encoded: unknown): (text: string) => string {
  if (encoded === null || encoded === undefined || encoded === "") return (text) => text;
  if (typeof encoded !== "string" && !(encoded instanceof Uint8Array))
    throw new Error("precompiled_charsmap is no string");
  const bytes = typeof encoded === "string" ? Buffer.from(encoded, "base64") : Buffer.from(encoded);
  if (bytes.length === 0) return (text) => text;
  if (bytes.length < 4 || bytes.readUInt32LE(0) + 4 > bytes.length || bytes.readUInt32LE(0) % 4 !== 0) {
    throw new Error("precompiled_charsmap is damaged");
  }
  const units = new Uint32Array(bytes.readUInt32LE(0) / 4);
  for (let i = 0; i < units.length; i++) units[i] = bytes.readUInt32LE(4 + i * 4);
  const texts = bytes.subarray(4 + units.length * 4);
  const known = new Map<string, string | undefined>();
  const replacement = (chunk: string): string | undefined => {
    if (known.has(chunk)) return known.get(chunk);
    const found = lookUp(units, texts, chunk);
    if (known.size < 65_536) known.set(chunk, found);
    return found;
  };
  const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
  return (text) => {
    // In ASCII there are no graphemes of several characters but CR LF.
    let changed = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? replacement(segment) : undefined;
      if (whole !== undefined) changed += whole;
      else for (const character of segment) changed += replacement(character) ?? character;
    }
    return changed;
  };
}

/** The replacement of the shortest beginning of a chunk that has one, as the Rust package does. */
function lookUp(units: Uint32Array, texts: Buffer, chunk: string): string | undefined {
  const offset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  let place = offset(units[0] ?? 0);
  for (const byte of Buffer.from(chunk)) {
    if (byte === 0) return undefined;
    place ^= byte;
    const unit = units[place];
    if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
    place ^= offset(unit);
    if (((unit >>> 8) & 1) === 0) continue;
    const start = (units[place] ?? 0) & 0x7fffffff;
    const end = texts.indexOf(0, start);
    return texts.toString("utf8", start, end < 0 ? texts.length : end);
  }
  return undefined;
}
