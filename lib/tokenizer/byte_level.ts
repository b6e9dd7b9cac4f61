/**
 * The printable characters by which byte-level BPE writes bytes (GPT-2's table): printable Latin-1 stands for itself,
 * every other byte for the next free code point from U+0100 on.
 */
export const byteCharacters: readonly string[] = createTable();

/** The byte that each of those characters stands for. */
export const byteOfCharacter: ReadonlyMap<string, number> = new Map(
  byteCharacters.map((character, byte) => [character, byte] as const),
);

const codes = Uint16Array.from(byteCharacters, (character) => character.charCodeAt(0));
const encoder = new TextEncoder();

/** A text's bytes as these characters. A long word at once: appending one character after another takes ten times as long. */
export function spellBytes(text: string): string {
  const bytes = encoder.encode(text);
  if (bytes.length <= 64) {
    let spelled = "";
    for (const byte of bytes) spelled += byteCharacters[byte];
    return spelled;
  }
  const units = Buffer.alloc(2 * bytes.length);
  for (let i = 0; i < bytes.length; i++) {
    const code = codes[bytes[i] as number] as number;
    units[2 * i] = code & 0xff;
    units[2 * i + 1] = code >> 8;
  }
  return units.toString("utf16le");
}

function createTable(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCodePoint(printable ? byte : next++);
  });
}
