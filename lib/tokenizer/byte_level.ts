/**
 * The printable characters by which byte-level BPE writes bytes (GPT-2's table): printable Latin-1 stands for itself,
 * every other byte for the next free code point from U+0100 on.
 */
export const byteCharacters: readonly string[] = createTable();

/** The byte that each of those characters stands for. */
export const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  byteCharacters.map((character, byte) => [character, byte] as const),
);

function createTable(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCodePoint(printable ? byte : next++);
  });
}
