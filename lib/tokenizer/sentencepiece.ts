/** A piece of a SentencePiece vocabulary. */
export interface Piece {
  text: string;
  score: number;
  /** 1: normal, 2: unknown, 3: control, 4: user-defined, 5: unused, 6: byte. */
  kind: number;
}

/** What is used of a tokenizer.model. */
export interface SentencePieceModel {
  pieces: Piece[];
  /** Otherwise it is BPE. */
  isUnigram: boolean;
  byteFallback: boolean;
  unknownId: number;
  bosId: number;
  eosId: number;
  unknownPiece: string;
  bosPiece: string;
  eosPiece: string;
  charsMap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraSpaces: boolean;
  escapeSpaces: boolean;
}

interface Field {
  number: number;
  /** The value of a varint or fixed number. */
  value: number;
  /** The content of a field with a length. */
  bytes: Uint8Array;
}

const nothing = new Uint8Array();
const mostPieces = 2 ** 22;

/**
 * Reads a tokenizer.model: a protocol buffer of SentencePiece (sentencepiece_model.proto).
 *
 * @throws Error for what is none.
 */
export function readSentencePiece(data: Uint8Array): SentencePieceModel {
  const pieces: Piece[] = [];
  let trainer: Uint8Array = nothing;
  let normalizer: Uint8Array = nothing;
  for (const { number, bytes } of readFields(data)) {
    if (number === 1) {
      if (pieces.length >= mostPieces) throw new Error(`it has more than ${mostPieces} pieces`);
      pieces.push(readPiece(bytes));
    } else if (number === 2) trainer = bytes;
    else if (number === 3) normalizer = bytes;
  }
  if (pieces.length === 0) throw new Error("it is no SentencePiece model: it has no pieces");
  const trained = fieldsByNumber(trainer);
  const normalizes = fieldsByNumber(normalizer);
  /** Negative numbers are written in 64 bits; the only one here is -1. */
  const id = (number: number, unset: number) => {
    const value = trained.get(number)?.value ?? unset;
    return value > 2 ** 31 ? -1 : value;
  };
  const text = (number: number, unset: string) => {
    const field = trained.get(number);
    return field === undefined ? unset : decodeText(field.bytes);
  };
  const type = trained.get(3)?.value ?? 1;
  if (type !== 1 && type !== 2)
    throw new Error(`its model type is ${type === 3 ? "word" : type === 4 ? "char" : type}; unigram and bpe are read`);
  const flag = (number: number) => (normalizes.get(number)?.value ?? 1) !== 0;
  return {
    pieces,
    isUnigram: type === 1,
    byteFallback: (trained.get(35)?.value ?? 0) !== 0,
    unknownId: id(40, 0),
    bosId: id(41, 1),
    eosId: id(42, 2),
    unknownPiece: text(45, "<unk>"),
    bosPiece: text(46, "<s>"),
    eosPiece: text(47, "</s>"),
    charsMap: normalizes.get(2)?.bytes ?? nothing,
    addDummyPrefix: flag(3),
    removeExtraSpaces: flag(4),
    escapeSpaces: flag(5),
  };
}

function readPiece(data: Uint8Array): Piece {
  const fields = fieldsByNumber(data);
  return {
    text: decodeText(fields.get(1)?.bytes ?? nothing),
    score: fields.get(2)?.value ?? 0,
    kind: fields.get(3)?.value ?? 1,
  };
}

function decodeText(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function fieldsByNumber(data: Uint8Array): Map<number, Field> {
  const fields = new Map<number, Field>();
  for (const field of readFields(data)) fields.set(field.number, field);
  return fields;
}

/** The fields of a message; groups, which nothing here has, are refused. */
function* readFields(data: Uint8Array): Generator<Field> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let place = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let i = 0; i < 10; i++) {
      const byte = data[place++];
      if (byte === undefined) throw new Error("it ends in the middle of a number");
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    throw new Error("it is damaged: a number does not end");
  };
  while (place < data.length) {
    const key = readVarint();
    const number = Math.floor(key / 8);
    const kind = key % 8;
    if (number === 0) throw new Error("it is damaged: a field has number 0");
    if (kind === 0) {
      yield { number, value: readVarint(), bytes: nothing };
      continue;
    }
    const length = kind === 5 ? 4 : kind === 1 ? 8 : kind === 2 ? readVarint() : -1;
    if (length < 0) throw new Error(`it is damaged: a field of kind ${kind}`);
    if (length > data.length - place) throw new Error("it ends in the middle of a field");
    const bytes = data.subarray(place, place + length);
    const value = kind === 5 ? view.getFloat32(place, true) : kind === 1 ? view.getFloat64(place, true) : 0;
    yield { number, value, bytes };
    place += length;
  }
}
