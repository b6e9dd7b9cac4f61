import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { TextStream } from "../../dist/engine/text_stream.js";
import { cleanUpSpaces, SpaceCleaner } from "../../dist/tokenizer/clean_up.js";
import { AutoTokenizer, type Tokenizer } from "../../dist/tokenizer/index.js";
import { demoFolder, kinds, readCases, tokenizersFolder } from "../tokenizer/fixtures.js";

const samples = [
  "plain text",
  "naïve café",
  "日本語のテキスト",
  "👩‍👩‍👧 🏳️‍🌈 😀😁",
  "e\u0301\u0327 a\u030a",
  "\ufeff",
  "don't , stop .",
  "<s>",
  "  ",
  "\n\t",
  "𝒳𝒴",
  "€",
];
const text = fc
  .array(fc.oneof(fc.constantFrom(...samples), fc.string({ unit: "binary", maxLength: 6 })), { maxLength: 8 })
  .map((parts) => parts.join(""));
const tokenizers = await Promise.all(
  kinds.map(async (kind) => ({ kind, tokenizer: await AutoTokenizer.fromPretrained(tokenizersFolder + kind) })),
);
tokenizers.push({ kind: "demo" as never, tokenizer: await AutoTokenizer.fromPretrained(demoFolder) });

/** All pieces of a stream, and whether it stopped. */
function run(tokenizer: Tokenizer, ids: number[], options?: ConstructorParameters<typeof TextStream>[1]) {
  const stream = new TextStream(tokenizer, options);
  const pieces = ids.map((id) => stream.push(id));
  pieces.push(stream.flush());
  return {
    texts: pieces.map((piece) => piece.text),
    joined: pieces.map((piece) => piece.text).join(""),
    stopped: stream.stopped,
  };
}

type TokensOf = Pick<Tokenizer, "decodeStream" | "idToToken" | "specialTokenIds">;

const halfCharacter = /\p{Surrogate}/u;

describe("pieces joined are the text of all ids", () => {
  for (const { kind, tokenizer } of tokenizers) {
    test(kind, () => {
      fc.assert(
        fc.property(text, fc.boolean(), (value, skipSpecialTokens) => {
          const ids = tokenizer.encode(value);
          const { texts, joined } = run(tokenizer, ids, { skipSpecialTokens });
          assert.equal(joined, tokenizer.decode(ids, { skipSpecialTokens }));
          for (const piece of texts) assert.doesNotMatch(piece, halfCharacter);
        }),
        { numRuns: 150 },
      );
    });
  }

  // Random ids make broken UTF-8, which byte fallback alone judges by what follows it.
  for (const { kind, tokenizer } of tokenizers.filter(
    ({ kind }) => !["byte_fallback", "unigram_bytes"].includes(kind),
  )) {
    test(`${kind}, ids of any kind`, () => {
      const ids = fc.array(fc.nat(tokenizer.vocabSize + 1), { maxLength: 30 });
      fc.assert(
        fc.property(ids, (value) => {
          assert.equal(run(tokenizer, value).joined, tokenizer.decode(value, { skipSpecialTokens: true }));
        }),
        { numRuns: 150 },
      );
    });
  }

  test("recorded ids of the Rust package", () => {
    for (const { kind, tokenizer } of tokenizers.filter(({ kind }) => kinds.includes(kind))) {
      for (const { ids, skipped } of readCases(kind).decode) {
        // The one difference that a stream may have: which of the bytes of a broken run are lost.
        if (skipped.includes("\uFFFD") && ["byte_fallback", "unigram_bytes"].includes(kind)) continue;
        assert.equal(run(tokenizer, ids).joined, skipped, `${kind} ${ids}`);
      }
    }
  });
});

describe("characters of several tokens", () => {
  for (const kind of ["byte_level", "byte_fallback"] as const) {
    test(`${kind}: nothing before the last byte, then the whole character`, () => {
      const { tokenizer } = tokenizers.find((one) => one.kind === kind)!;
      const ids = Array.from(new TextEncoder().encode("🐋"), (byte) => byteToken(tokenizer, kind, byte));
      const stream = new TextStream(tokenizer);
      stream.push(tokenizer.encode("x", { addSpecialTokens: false }));
      assert.deepEqual(
        ids.map((id) => stream.push(id).text),
        ["", "", "", "🐋"],
      );
      assert.deepEqual(stream.flush(), { text: "", stopped: false });
    });

    test(`${kind}: an unfinished character becomes U+FFFD at the end, not before`, () => {
      const { tokenizer } = tokenizers.find((one) => one.kind === kind)!;
      const ids = [0xf0, 0x9f].map((byte) => byteToken(tokenizer, kind, byte));
      const stream = new TextStream(tokenizer);
      assert.equal(stream.push(ids).text, "");
      assert.equal(stream.flush().text, tokenizer.decode(ids));
      assert.match(tokenizer.decode(ids), /^\uFFFD+$/);
    });
  }

  test("byte fallback: broken bytes are one U+FFFD each, and the text after them is whole", () => {
    const { tokenizer } = tokenizers.find((one) => one.kind === "byte_fallback")!;
    const bytes = [0xe2, 0x82, 0xac, 0xff, 0xe2, 0x82].map((byte) => byteToken(tokenizer, "byte_fallback", byte));
    const word = tokenizer.encode("dog", { addSpecialTokens: false });
    assert.equal(run(tokenizer, [...bytes, ...word]).joined, "€\uFFFD\uFFFD\uFFFD dog");
  });
});

describe("byte fallback: bytes that are no UTF-8", () => {
  const { tokenizer } = tokenizers.find((one) => one.kind === "byte_fallback")!;
  const idsOf = (bytes: readonly number[]) => bytes.map((byte) => byteToken(tokenizer, "byte_fallback", byte));

  /** The definition: characters as long as they are whole and valid, then one U+FFFD a byte to the end of the run. */
  function expected(bytes: readonly number[]): string {
    for (let end = bytes.length; ; end--) {
      try {
        const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
        return utf8.decode(Uint8Array.from(bytes.slice(0, end))) + "\uFFFD".repeat(bytes.length - end);
      } catch {
        // A shorter one then.
      }
    }
  }

  // Each is followed by bytes that would be characters in another run.
  const invalid: [string, number[]][] = [
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["the last surrogate", [0xed, 0xbf, 0xbf]],
    ["an overlong form of two bytes", [0xc1, 0x80]],
    ["an overlong form of three bytes", [0xe0, 0x9f, 0xbf]],
    ["an overlong form of four bytes", [0xf0, 0x8f, 0xbf, 0xbf]],
    ["past U+10FFFF", [0xf4, 0x90, 0x80, 0x80]],
    ["a lead that is none", [0xf5, 0x80, 0x80, 0x80]],
    ["a byte that only continues", [0x80]],
    ["a character cut short", [0xe2, 0x82]],
  ];
  for (const [name, bytes] of invalid) {
    test(name, () => {
      const all = [0x41, ...bytes, 0x42, 0xc3, 0xa9];
      assert.equal(expected(all), `A${"\uFFFD".repeat(bytes.length + 3)}`);
      assert.equal(run(tokenizer, idsOf(all)).joined, expected(all));
    });
  }

  test("the first and the last characters of each length are text", () => {
    for (const character of [
      "\u007f",
      "\u0080",
      "\u07ff",
      "\u0800",
      "\ud7ff",
      "\ue000",
      "\uffff",
      "\u{10000}",
      "\u{10ffff}",
    ]) {
      const bytes = [...new TextEncoder().encode(character), 0x42];
      assert.equal(run(tokenizer, idsOf(bytes)).joined, `${character}B`);
    }
  });

  test("any bytes", () => {
    const byte = fc.oneof(
      fc.constantFrom(0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xe0, 0xed, 0xf0, 0xf4),
      fc.nat(255),
    );
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 8 }), (bytes) => {
        // The decoder takes a space from the start of a text.
        const all = [0x41, ...bytes];
        assert.equal(run(tokenizer, idsOf(all)).joined, expected(all));
      }),
      { numRuns: 1000 },
    );
  });
});

function byteToken(tokenizer: Tokenizer, kind: "byte_level" | "byte_fallback", byte: number): number {
  const hex = byte.toString(16).toUpperCase().padStart(2, "0");
  // The byte-level alphabet: printable Latin-1 as it is, these four among the characters that stand for other bytes.
  const letters: Record<number, string> = { 240: "ð", 159: "Ł", 144: "Ĳ", 139: "ĭ" };
  const id = tokenizer.tokenToId(kind === "byte_fallback" ? `<0x${hex}>` : letters[byte]!);
  assert.notEqual(id, undefined);
  return id!;
}

/** The definition: as text grows character by character, the first that completes a stop string ends it, before the longest of those. */
function naiveStop(value: string, stops: string[]): { text: string; stopped: boolean } {
  for (let end = 1; end <= value.length; end++) {
    const complete = stops.filter((stop) => value.slice(0, end).endsWith(stop));
    if (complete.length > 0)
      return { text: value.slice(0, end - Math.max(...complete.map((stop) => stop.length))), stopped: true };
  }
  return { text: value, stopped: false };
}

/** A tokenizer whose tokens are given strings: any split of a text can be made with it. */
function splitter(pieces: string[], flushed = ""): TokensOf {
  return streamOf((id) => pieces[id]!, flushed);
}

function streamOf(push: (id: number) => string, flushed = ""): TokensOf {
  return {
    decodeStream: () => ({ push, flush: () => flushed }),
    idToToken: () => undefined,
    specialTokenIds: new Set<number>(),
  };
}

describe("stop strings", () => {
  test("any split of any text, several overlapping stops: as the definition says, and nothing is shown that must go", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "😀", "😁"), maxLength: 12 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "😀", "😁"), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 8 }), stops, (pieces, stop) => {
        const stream = new TextStream(splitter(pieces), { stop });
        let shown = "";
        for (const i of pieces.keys()) {
          shown += stream.push(i).text;
          assert.doesNotMatch(shown, halfCharacter);
          const complete = pieces.slice(0, i + 1).join("");
          assert.ok(naiveStop(complete, stop).text.startsWith(shown));
          // No more is held back than the longest stop string could need.
          const longest = Math.max(0, ...stop.map((one) => one.length - 1));
          if (!stream.stopped) assert.ok(complete.length - shown.length <= longest);
        }
        shown += stream.flush().text;
        assert.deepEqual({ text: shown, stopped: stream.stopped }, naiveStop(pieces.join(""), stop));
      }),
      { numRuns: 2000 },
    );
  });

  test("with real tokens", () => {
    const { tokenizer } = tokenizers.find(({ kind }) => (kind as string) === "demo")!;
    fc.assert(
      fc.property(text, fc.nat(), fc.integer({ min: 1, max: 6 }), (value, at, length) => {
        const ids = tokenizer.encode(value);
        const whole = tokenizer.decode(ids, { skipSpecialTokens: true });
        const characters = [...whole];
        const start = characters.length === 0 ? 0 : at % characters.length;
        const stop = [characters.slice(start, start + length).join("") || "x"];
        const { joined, stopped } = run(tokenizer, ids, { stop });
        assert.deepEqual({ text: joined, stopped }, naiveStop(whole, stop));
      }),
      { numRuns: 300 },
    );
  });

  test("after a stop nothing comes any more", () => {
    const stream = new TextStream(splitter(["ab", "STOP tail", "more"]), { stop: ["STOP"] });
    assert.deepEqual(stream.push([0, 1, 2]), { text: "ab", stopped: true });
    assert.deepEqual(stream.push(2), { text: "", stopped: true });
    assert.deepEqual(stream.flush(), { text: "", stopped: true });
  });

  test("a stop string that the end of the stream completes", () => {
    const stream = new TextStream(splitter(["x"], "yz"), { stop: ["xy"] });
    assert.deepEqual(stream.push(0), { text: "", stopped: false });
    assert.deepEqual(stream.flush(), { text: "", stopped: true });
  });

  test("held text that is no stop string after all comes out", () => {
    const stream = new TextStream(splitter(["wait ST", "AY"]), { stop: ["STOP"] });
    assert.deepEqual(stream.push(0), { text: "wait ", stopped: false });
    assert.deepEqual(stream.push(1), { text: "STAY", stopped: false });
  });
});

describe("text continues that of the prompt", () => {
  for (const { kind, tokenizer } of tokenizers) {
    test(`${kind}: at any split of the ids`, () => {
      fc.assert(
        fc.property(text, text, fc.nat(), (value, more, at) => {
          const ids = [...tokenizer.encode(value), ...tokenizer.encode(more, { addSpecialTokens: false })];
          const split = at % (ids.length + 1);
          const prompt = ids.slice(0, split);
          const whole = tokenizer.decode(ids, { skipSpecialTokens: true });
          const before = tokenizer.decode(prompt, { skipSpecialTokens: true });
          const { joined } = run(tokenizer, ids.slice(split), { prompt });
          // New tokens that change the prompt's end, a character that they complete say, have no text of their own.
          if (whole.startsWith(before)) assert.equal(joined, whole.slice(before.length));
          else assert.ok(whole.endsWith(joined), JSON.stringify([whole, joined]));
        }),
        { numRuns: 300 },
      );
    });
  }

  test("the first new word of a SentencePiece model keeps its space", () => {
    const { tokenizer } = tokenizers.find(({ kind }) => kind === "byte_fallback")!;
    const word = (name: string) => tokenizer.encode(name, { addSpecialTokens: false });
    const prompt = tokenizer.encode("the");
    assert.equal(tokenizer.decode([...prompt, ...word("the")], { skipSpecialTokens: true }), "the the");
    assert.equal(run(tokenizer, word("the"), { prompt }).joined, " the");
    assert.equal(run(tokenizer, word("the")).joined, "the", "nothing before it");
    assert.equal(run(tokenizer, word("the"), { prompt: [1] }).joined, "the", "special tokens alone before it");
    assert.equal(run(tokenizer, word("the"), { prompt: [...prompt, ...new Array(100).fill(1)] }).joined, " the");
  });

  test("what a decoder holds back of the prompt is not repeated", () => {
    const pushed = ["word ", "next "];
    const stream = { push: (id: number) => (id === 0 ? "" : pushed[id - 1]!), flush: () => "word" };
    const tokenizer = { ...splitter([]), decodeStream: () => ({ ...stream }) };
    const texts = new TextStream(tokenizer, { prompt: [0] });
    assert.deepEqual(texts.push([1, 2]), { text: " next ", stopped: false });
  });
});

describe("stop strings and special tokens that are not shown", () => {
  /** Token i is pieces[i]; those in <> are special. */
  function hiding(pieces: string[]): TokensOf {
    const specialTokenIds = new Set([...pieces.keys()].filter((id) => pieces[id]!.startsWith("<")));
    const push = (id: number) => (specialTokenIds.has(id) ? "" : pieces[id]!);
    return { ...streamOf(push), idToToken: (id) => pieces[id], specialTokenIds };
  }
  const texts = (pieces: string[], stop: string[]) => {
    const stream = new TextStream(hiding(pieces), { stop });
    const shown = pieces.map((_, id) => stream.push(id).text);
    shown.push(stream.flush().text);
    return { text: shown.join(""), stop: stream.stopString };
  };

  test("a stop string that is a special token, or has one in it", () => {
    assert.deepEqual(texts(["one", "<end>", "two"], ["<end>"]), { text: "one", stop: "<end>" });
    assert.deepEqual(texts(["on", "e.", "<end>", "two"], ["e.<end>"]), { text: "on", stop: "e.<end>" });
    assert.deepEqual(texts(["one", "<a>", "<b>", "two", "x"], ["<a><b>t"]), { text: "one", stop: "<a><b>t" });
    assert.deepEqual(texts(["one", "<end>", "two"], ["end"]), { text: "one", stop: "end" });
    assert.deepEqual(texts(["one", "<end>", "two"], ["<end>x"]), { text: "onetwo", stop: undefined });
    assert.deepEqual(texts(["one", "<end>"], ["<end>x"]), { text: "one", stop: undefined });
  });

  test("a stop string goes past them", () => {
    assert.deepEqual(texts(["say ST", "<x>", "OP now"], ["STOP"]), { text: "say ", stop: "STOP" });
    assert.deepEqual(texts(["say ST", "<x>", "AY now"], ["STOP"]), { text: "say STAY now", stop: undefined });
  });

  test("any tokens, any stop strings: the first that is complete in the text with or without them", () => {
    const pieces = fc.array(fc.constantFrom("a", "b", "ab", "<c>", "<d>", ""), { maxLength: 10 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "<c>", "<d>"), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(pieces, stops, (tokens, stop) => {
        const shownOf = (part: string) => part.replaceAll(/<[cd]?>?|[cd]?>/g, "");
        let expected: string | undefined;
        let whole = "";
        // Token by token and in it character by character, since a special token is searched with all of its text.
        for (const token of tokens) {
          for (const character of token.startsWith("<") ? [token] : token) {
            whole += character;
            const cuts = stop.flatMap((one) => {
              if (whole.endsWith(one)) return [shownOf(whole.slice(0, whole.length - one.length))];
              const shown = shownOf(whole);
              return !token.startsWith("<") && shown.endsWith(one) ? [shown.slice(0, shown.length - one.length)] : [];
            });
            if (cuts.length > 0) expected = cuts.sort((a, b) => a.length - b.length)[0];
            if (expected !== undefined) break;
          }
          if (expected !== undefined) break;
        }
        assert.equal(texts(tokens, stop).text, expected ?? shownOf(whole));
      }),
      { numRuns: 2000 },
    );
  });

  test("text that the decoder held back stands before the special token", () => {
    const held = { ...hiding(["<end>"]), decodeStream: () => ({ push: () => "", flush: () => "word" }) };
    const stream = new TextStream(held, { stop: ["<end>"] });
    assert.deepEqual(stream.push(0), { text: "word", stopped: true });
  });
});

test("spaces before punctuation, in pieces of any size", () => {
  const part = fc.constantFrom(
    " ",
    "'",
    ".",
    ",",
    "!",
    "?",
    "n't",
    "'m",
    "'s",
    "'ve",
    "'re",
    " ' ",
    " .",
    "a",
    "bcd",
    "  ",
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 20 }), (pieces) => {
      const cleaner = new SpaceCleaner();
      const joined = pieces.map((piece) => cleaner.push(piece)).join("") + cleaner.flush();
      assert.equal(joined, cleanUpSpaces(pieces.join("")));
    }),
    { numRuns: 3000 },
  );
});

test("a token costs the same late in a long text as early", () => {
  // Counted, not timed: how often the decoder is asked. How much text is kept, the tests above have bounded.
  let asked = 0;
  const push = () => {
    asked++;
    return "word ";
  };
  const stream = new TextStream(streamOf(push), { stop: ["never"] });
  for (let i = 0; i < 20_000; i++) assert.equal(stream.push(1).text, "word ");
  assert.equal(asked, 20_000);
});
