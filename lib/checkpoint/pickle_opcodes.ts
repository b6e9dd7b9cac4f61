import { quote } from "./errors.js";
import { type PickleMachine, pickleLimits } from "./pickle_machine.js";
import { decodeEscapes, decodeInteger, decodeRawUnicode, decodeText, decodeUtf8, parseInteger } from "./pickle_text.js";
import {
  kindOfPickle,
  PickleDict,
  PickleError,
  PickleGlobal,
  PickleList,
  PickleSet,
  PickleTuple,
  type PickleValue,
} from "./pickle_values.js";

type Instruction = (machine: PickleMachine) => void;

/** The highest protocol that Python has. */
const kMaxProtocol = 5;

/** The instructions by their names in pickletools; STOP is the reader's own. */
const op = {
  MARK: 0x28,
  EMPTY_TUPLE: 0x29,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  FLOAT: 0x46,
  BINFLOAT: 0x47,
  INT: 0x49,
  BININT: 0x4a,
  BININT1: 0x4b,
  LONG: 0x4c,
  BININT2: 0x4d,
  NONE: 0x4e,
  PERSID: 0x50,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  EMPTY_LIST: 0x5d,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  EMPTY_DICT: 0x7d,
  PROTO: 0x80,
  NEWOBJ: 0x81,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  EMPTY_SET: 0x8f,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  NEWOBJ_EX: 0x92,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
  BYTEARRAY8: 0x96,
  NEXT_BUFFER: 0x97,
  READONLY_BUFFER: 0x98,
} as const;

const numbers: Record<number, Instruction> = {
  [op.NONE]: (m) => m.push(null),
  [op.NEWTRUE]: (m) => m.push(true),
  [op.NEWFALSE]: (m) => m.push(false),
  [op.INT]: (m) => {
    // Protocol 0 writes booleans so too.
    const text = m.line();
    m.push(text === "00" ? false : text === "01" ? true : parseInteger(text));
  },
  [op.BININT]: (m) => m.push(m.u32() | 0),
  [op.BININT1]: (m) => m.push(m.u8()),
  [op.BININT2]: (m) => m.push(m.u16()),
  [op.LONG]: (m) => m.pushNew(parseInteger(m.line().replace(/L$/, ""))),
  [op.LONG1]: (m) => m.pushNew(decodeInteger(m.slice(m.u8()))),
  [op.LONG4]: (m) => {
    const length = m.u32();
    if (length > pickleLimits.integerBytes) throw new PickleError(`has an integer of ${length} bytes`);
    m.pushNew(decodeInteger(m.slice(length)));
  },
  [op.FLOAT]: (m) => m.push(parseFloatText(m.line())),
  [op.BINFLOAT]: (m) => m.push(m.bytes.readDoubleBE(m.take(8))),
};

const texts: Record<number, Instruction> = {
  [op.STRING]: (m) => m.pushNew(decodeText(decodeEscapes(m.line()))),
  [op.BINSTRING]: (m) => m.pushNew(decodeText(m.slice(m.u32()))),
  [op.SHORT_BINSTRING]: (m) => m.pushNew(decodeText(m.slice(m.u8()))),
  [op.UNICODE]: (m) => m.pushNew(decodeRawUnicode(m.line())),
  [op.BINUNICODE]: (m) => m.pushNew(decodeUtf8(m.slice(m.u32()))),
  [op.SHORT_BINUNICODE]: (m) => m.pushNew(decodeUtf8(m.slice(m.u8()))),
  [op.BINUNICODE8]: (m) => m.pushNew(decodeUtf8(m.slice(m.u64()))),
  [op.BINBYTES]: (m) => m.pushNew(m.slice(m.u32())),
  [op.SHORT_BINBYTES]: (m) => m.pushNew(m.slice(m.u8())),
  [op.BINBYTES8]: (m) => m.pushNew(m.slice(m.u64())),
  [op.BYTEARRAY8]: (m) => m.pushNew(m.slice(m.u64())),
};

const containers: Record<number, Instruction> = {
  [op.MARK]: (m) => m.mark(),
  [op.POP]: (m) => m.discard(),
  [op.POP_MARK]: (m) => void m.popToMark(),
  [op.DUP]: (m) => m.push(m.top()),
  [op.EMPTY_TUPLE]: (m) => m.push(emptyTuple),
  [op.TUPLE]: (m) => m.pushNew(new PickleTuple(m.popToMark())),
  [op.TUPLE1]: (m) => m.pushNew(new PickleTuple(m.popMany(1))),
  [op.TUPLE2]: (m) => m.pushNew(new PickleTuple(m.popMany(2))),
  [op.TUPLE3]: (m) => m.pushNew(new PickleTuple(m.popMany(3))),
  [op.EMPTY_LIST]: (m) => m.pushNew(new PickleList()),
  [op.LIST]: (m) => {
    const items = m.popToMark();
    m.pushNew(new PickleList());
    append(m.top(), items);
  },
  [op.APPEND]: (m) => {
    const items = m.popMany(1);
    append(m.top(), items);
  },
  [op.APPENDS]: (m) => {
    const items = m.popToMark();
    append(m.top(), items);
  },
  [op.EMPTY_DICT]: (m) => m.pushNew(new PickleDict(false)),
  [op.DICT]: (m) => {
    const items = m.popToMark();
    m.pushNew(new PickleDict(false));
    setItems(m.top(), items);
  },
  [op.SETITEM]: (m) => {
    const items = m.popMany(2);
    setItems(m.top(), items);
  },
  [op.SETITEMS]: (m) => {
    const items = m.popToMark();
    setItems(m.top(), items);
  },
  [op.EMPTY_SET]: (m) => m.pushNew(new PickleSet()),
  [op.ADDITEMS]: (m) => {
    const items = m.popToMark();
    addItems(m.top(), items);
  },
  [op.FROZENSET]: (m) => {
    const items = m.popToMark();
    m.pushNew(new PickleSet());
    addItems(m.top(), items);
  },
};

const memo: Record<number, Instruction> = {
  [op.GET]: (m) => m.recall(memoIndex(m.line())),
  [op.BINGET]: (m) => m.recall(m.u8()),
  [op.LONG_BINGET]: (m) => m.recall(m.u32()),
  [op.PUT]: (m) => m.memoize(memoIndex(m.line())),
  [op.BINPUT]: (m) => m.memoize(m.u8()),
  [op.LONG_BINPUT]: (m) => m.memoize(m.u32()),
  [op.MEMOIZE]: (m) => m.memoize(),
};

const objects: Record<number, Instruction> = {
  [op.GLOBAL]: (m) => {
    const module = decodeText(Buffer.from(m.line(), "latin1"));
    m.push(m.environment.findGlobal(module, decodeText(Buffer.from(m.line(), "latin1"))));
  },
  [op.STACK_GLOBAL]: (m) => {
    const [module, name] = m.popMany(2);
    if (typeof module !== "string" || typeof name !== "string") {
      throw new PickleError("names a global with something that is not a string");
    }
    m.push(m.environment.findGlobal(module, name));
  },
  [op.REDUCE]: (m) => {
    const args = m.popTuple();
    m.pushNew(m.environment.reduce(m.pop(), args));
  },
  [op.NEWOBJ]: (m) => {
    // For the few classes known here it is the same as a call.
    const args = m.popTuple();
    m.pushNew(m.environment.reduce(m.pop(), args));
  },
  [op.NEWOBJ_EX]: (m) => {
    const keywords = m.pop();
    const args = m.popTuple();
    if (!(keywords instanceof PickleDict) || keywords.entries.size > 0) {
      throw new PickleError(`calls ${kindOfPickle(m.top())} with keywords`);
    }
    m.pushNew(m.environment.reduce(m.pop(), args));
  },
  [op.BUILD]: (m) => {
    const state = m.pop();
    m.push(m.environment.build(m.pop(), state));
  },
  [op.BINPERSID]: (m) => m.pushNew(m.environment.loadPersistent(m.pop())),
};

const framing: Record<number, Instruction> = {
  [op.PROTO]: (m) => {
    const protocol = m.u8();
    if (protocol > kMaxProtocol) throw new PickleError(`has protocol ${protocol}, the highest is ${kMaxProtocol}`);
  },
  [op.FRAME]: (m) => {
    // A hint for readers of streams: only its claim is checked.
    const length = m.u64();
    m.take(length);
    m.position -= length;
  },
};

/** Instructions that torch never writes and that name, call or expect something from outside. */
const refused: Record<number, Instruction> = {
  [op.INST]: (m) => {
    const module = m.line();
    throw new PickleError(`makes an object of ${quote(`${module}.${m.line()}`)} with the instruction INST`);
  },
  [op.OBJ]: (m) => {
    const [callable] = m.popToMark();
    const name = callable instanceof PickleGlobal ? callable.name : "an unknown class";
    throw new PickleError(`makes an object of ${name} with the instruction OBJ`);
  },
  [op.PERSID]: (m) => {
    throw new PickleError(`has the persistent id ${quote(m.line())}, which torch never writes`);
  },
  [op.EXT1]: (m) => refuseExtension(m.u8()),
  [op.EXT2]: (m) => refuseExtension(m.u16()),
  [op.EXT4]: (m) => refuseExtension(m.u32()),
  [op.NEXT_BUFFER]: () => refuseBuffer(),
  [op.READONLY_BUFFER]: () => refuseBuffer(),
};

/** What to do, by instruction byte; STOP is the reader's own. */
export const opcodes: readonly (Instruction | undefined)[] = Array.from(
  { length: 256 },
  (_, byte) =>
    numbers[byte] ?? texts[byte] ?? containers[byte] ?? memo[byte] ?? objects[byte] ?? framing[byte] ?? refused[byte],
);

const emptyTuple = new PickleTuple([]);

function append(target: PickleValue, items: readonly PickleValue[]): void {
  if (!(target instanceof PickleList)) throw new PickleError(`appends to ${kindOfPickle(target)}`);
  for (const item of items) target.items.push(item);
}

function setItems(target: PickleValue, items: readonly PickleValue[]): void {
  if (!(target instanceof PickleDict)) throw new PickleError(`sets items on ${kindOfPickle(target)}`);
  if (items.length % 2 !== 0) throw new PickleError("sets a key without a value");
  for (let i = 0; i < items.length; i += 2) target.set(items[i] as PickleValue, items[i + 1] as PickleValue);
}

function addItems(target: PickleValue, items: readonly PickleValue[]): void {
  if (!(target instanceof PickleSet)) throw new PickleError(`adds items to ${kindOfPickle(target)}`);
  for (const item of items) target.items.push(item);
}

function memoIndex(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new PickleError("remembers a value under something that is not a number");
  return Number(text);
}

function parseFloatText(text: string): number {
  const special = { nan: Number.NaN, inf: Infinity, "-inf": -Infinity }[text];
  if (special !== undefined) return special;
  if (text.trim() === "" || !Number.isFinite(Number(text))) throw new PickleError("has a float that is not a number");
  return Number(text);
}

function refuseExtension(number: number): never {
  throw new PickleError(`refers to the extension registry (number ${number}), which torch never does`);
}

function refuseBuffer(): never {
  throw new PickleError("expects a buffer from outside the pickle, which torch never does");
}
