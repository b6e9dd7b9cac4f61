import { byteOfCharacter } from "./byte_level.js";
import { cleanUpWordPieces } from "./clean_up.js";
import { allAtOnce, type DecoderStage, eachToken } from "./decoder_stage.js";
import { createNormalizer } from "./encoding/normalizers.js";
import { mosesWords } from "./moses_decoder.js";

type Json = { [key: string]: unknown };

/** Makes a fresh chain of stages; chains hold state and serve one text each. */
export type DecoderFactory = (whole: boolean) => DecoderStage;

/** Each character of a token stands for a byte; the bytes of all tokens are UTF-8. */
function byteLevel(): DecoderStage {
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const encoder = new TextEncoder();
  const toBytes = (token: string): Uint8Array => {
    const bytes: number[] = [];
    for (const character of token) {
      const byte = byteOfCharacter.get(character);
      // A token with any other character is an added one, written as it is.
      if (byte === undefined) return encoder.encode(token);
      bytes.push(byte);
    }
    return Uint8Array.from(bytes);
  };
  return {
    push: (token) => [utf8.decode(toBytes(token), { stream: true })],
    flush: () => [utf8.decode()],
  };
}

/**
 * Tokens such as <0xE2> are bytes. A run of them is text if all of it is UTF-8, and otherwise one U+FFFD a byte. A
 * stream cannot wait for the end of the run, so unless `whole`, characters leave as soon as they are complete and the rule
 * holds for what follows them: a difference that only runs which end badly can show.
 */
function byteFallback(whole: boolean): DecoderStage {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let run: number[] = [];
  let broken = false;
  const endRun = (): string[] => {
    const bytes = run;
    run = [];
    broken = false;
    if (bytes.length === 0) return [];
    try {
      return [strict.decode(Uint8Array.from(bytes))];
    } catch {
      return bytes.map(() => "\uFFFD");
    }
  };
  const tryEmit = (): string[] => {
    if (broken) {
      run = [];
      return ["\uFFFD"];
    }
    const state = utf8State(run);
    if (state === "incomplete") return [];
    if (state === "complete") return endRun();
    const lost = run.map(() => "\uFFFD");
    run = [];
    broken = true;
    return lost;
  };
  return {
    push(token) {
      const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
      if (match === null) return [...endRun(), token];
      run.push(Number.parseInt(match[1] as string, 16));
      return whole ? [] : tryEmit();
    },
    flush: endRun,
  };
}

/** Whether bytes, at most one character's, are a UTF-8 character, the beginning of one, or neither. */
function utf8State(bytes: readonly number[]): "complete" | "incomplete" | "invalid" {
  const lead = bytes[0] as number;
  const length =
    lead < 0x80
      ? 1
      : lead >= 0xc2 && lead < 0xe0
        ? 2
        : lead >= 0xe0 && lead < 0xf0
          ? 3
          : lead >= 0xf0 && lead < 0xf5
            ? 4
            : 0;
  if (length === 0) return "invalid";
  for (let i = 1; i < bytes.length; i++) {
    // The second byte excludes overlong forms, surrogates and code points past U+10FFFF.
    const low = i > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const high = i > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    const byte = bytes[i] as number;
    if (byte < low || byte > high) return "invalid";
  }
  return bytes.length === length ? "complete" : "incomplete";
}

/** ▁ is a space, but for those of the first token, which encoding has put there. */
function metaspace(config: Json): DecoderStage {
  const replacement = typeof config.replacement === "string" ? config.replacement : "▁";
  const prepends =
    config.prepend_scheme === undefined ? config.add_prefix_space !== false : config.prepend_scheme !== "never";
  return eachToken((token, first) => token.replaceAll(replacement, first && prepends ? "" : " "));
}

/** A suffix ends words: a space after each but the last. */
function wordSuffix(config: Json): DecoderStage {
  const suffix = typeof config.suffix === "string" ? config.suffix : "</w>";
  let held: string | undefined;
  const release = (space: string): string[] => {
    const token = held;
    held = undefined;
    return token === undefined ? [] : [suffix === "" ? token : token.replaceAll(suffix, space)];
  };
  return {
    push(token) {
      const released = release(" ");
      held = token;
      return released;
    },
    flush: () => release(""),
  };
}

/** Removes up to `start` and `stop` characters from the ends of the whole text. */
function stripText(config: Json): DecoderStage {
  const content = String(config.content);
  const stop = Number(config.stop ?? 0);
  let start = Number(config.start ?? 0);
  let tail = "";
  return {
    push(token) {
      let text = token;
      while (start > 0 && text !== "") {
        if (!text.startsWith(content)) {
          start = 0;
          break;
        }
        text = text.slice(content.length);
        start--;
      }
      if (stop === 0) return [text];
      tail += text;
      let hold = tail.length;
      for (let i = 0; i < stop && tail.endsWith(content, hold); i++) hold -= content.length;
      text = tail.slice(0, hold);
      tail = tail.slice(hold);
      return [text];
    },
    flush: () => [],
  };
}

/** Removes up to `start` and `stop` characters from the ends of a token. */
function stripToken(config: Json): (token: string) => string {
  const content = String(config.content);
  const most = (value: unknown) => (typeof value === "number" ? value : 0);
  return (token) => {
    const characters = Array.from(token);
    let start = 0;
    while (start < most(config.start) && characters[start] === content) start++;
    let end = characters.length;
    while (characters.length - end < most(config.stop) && end > start && characters[end - 1] === content) end--;
    return characters.slice(start, end).join("");
  };
}

/** CTC: a token that repeats is one, and padding is nothing. */
function joinRepeated(tokens: string[], config: Json): string[] {
  const text = (value: unknown, unset: string) => (typeof value === "string" ? value : unset);
  const padding = text(config.pad_token, "<pad>");
  const delimiter = text(config.word_delimiter_token, "|");
  return tokens
    .filter((token, i) => token !== tokens[i - 1])
    .map((token) => (padding === "" ? token : token.replaceAll(padding, "")))
    .map((token) => (config.cleanup === false ? token : cleanUpWordPieces(token).replaceAll(delimiter, " ")))
    .filter((token) => token !== "");
}

function createStage(config: Json, fused: boolean, whole: boolean): DecoderStage {
  switch (config.type) {
    case "ByteLevel":
      return byteLevel();
    case "ByteFallback":
      if (fused) break;
      return byteFallback(whole);
    case "Metaspace":
      if (fused) break;
      return metaspace(config);
    case "BPEDecoder":
      if (fused) break;
      return wordSuffix(config);
    case "Moses":
      if (fused) break;
      return mosesWords();
    case "Fuse":
      return eachToken((token) => token);
    case "Strip": {
      if (fused) return stripText(config);
      return eachToken(stripToken(config));
    }
    case "Replace": {
      if (fused) break;
      return eachToken(createNormalizer(config));
    }
    case "WordPiece": {
      if (fused) break;
      const prefix = typeof config.prefix === "string" ? config.prefix : "##";
      return eachToken((token, first) => {
        const joined = first ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
        return config.cleanup === false ? joined : cleanUpWordPieces(joined);
      });
    }
    case "CTC":
      return allAtOnce((tokens) => joinRepeated(tokens, config));
  }
  // A stage behind Fuse that looks at more than the ends of the text: rare enough to give up streaming for it.
  return allAtOnce((tokens) => {
    const stage = createStage(config, false, true);
    return [...stage.push(tokens.join("")), ...stage.flush()];
  });
}

function chain(stages: DecoderStage[]): DecoderStage {
  const run = (from: number, tokens: string[]): string[] => {
    let current = tokens;
    for (let i = from; i < stages.length; i++) {
      const stage = stages[i] as DecoderStage;
      current = current.flatMap((token) => stage.push(token));
    }
    return current;
  };
  return {
    push: (token) => run(0, [token]),
    flush: () => stages.flatMap((stage, i) => run(i + 1, stage.flush())),
  };
}

function flatten(config: Json): Json[] {
  if (config.type !== "Sequence") return [config];
  return ((config.decoders as Json[] | undefined) ?? []).flatMap(flatten);
}

const knownTypes = [
  "ByteLevel",
  "ByteFallback",
  "Metaspace",
  "BPEDecoder",
  "Fuse",
  "Strip",
  "Replace",
  "WordPiece",
  "CTC",
  "Moses",
];

/**
 * Reads the `decoder` of a tokenizer.json.
 *
 * @throws Error for a type that is not known.
 */
export function createDecoder(config: unknown): DecoderFactory {
  if (config === null || config === undefined) {
    return () => eachToken((token, first) => (first ? token : ` ${token}`));
  }
  const configs = flatten(config as Json);
  for (const { type } of configs) {
    if (!knownTypes.includes(type as string)) throw new Error(`decoder type ${JSON.stringify(type)} is not known`);
  }
  const create: DecoderFactory = (whole) => {
    let fused = false;
    const stages = configs.map((stage) => {
      const created = createStage(stage, fused, whole);
      fused ||= stage.type === "Fuse" || stage.type === "ByteLevel" || stage.type === "CTC";
      return created;
    });
    return chain(stages);
  };
  create(true); // A broken pattern shows when the tokenizer is loaded, not when it is first used.
  return create;
}
