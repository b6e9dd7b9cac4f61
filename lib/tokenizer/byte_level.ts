/**
 * The printable characters by which byte-level BPE writes bytes (GPT-2's table): printable Latin-1 stands for itself,
 * every other byte for the next free code point from U+0100 on.
 */
export const byteOfCharacter: ReadonlyMap<string, number> = createTable();

function createTable(): Map<string, number> {
  const table = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    table.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return table;
}
