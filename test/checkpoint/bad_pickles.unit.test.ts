import { Buffer } from "node:buffer";
import { type BadCase, refuses } from "./bad_case.js";
import {
  assemble,
  type Code,
  call,
  dict,
  global,
  int,
  list,
  orderedDict,
  pickle,
  storage,
  str,
  tensor,
  tuple,
} from "./pickle_writer.js";
import { Scratch } from "./support.js";
import { torchZip } from "./torch_writer.js";

const scratch = new Scratch();

/** A pickle in an archive that is right in all else. */
function zipOf(object: Code): Buffer {
  return torchZip({ object });
}

function shortStr(text: string): Code {
  return [Uint8Array.from([0x8c, text.length]), text];
}

const calls: BadCase[] = [
  { what: "os.system", file: zipOf(call(global("os", "system"), str("true"))), says: /refers to os\.system/ },
  { what: "posix.system", file: zipOf(call(global("posix", "system"), str("true"))), says: /refers to posix\.system/ },
  { what: "builtins.eval", file: zipOf(call(global("builtins", "eval"), str("1"))), says: /refers to builtins\.eval/ },
  {
    what: "eval as Python 2 names it",
    file: zipOf(call(global("__builtin__", "eval"), str("1"))),
    says: /refers to __builtin__\.eval \(builtins\.eval\)/,
  },
  { what: "builtins.getattr", file: zipOf(global("builtins", "getattr")), says: /refers to builtins\.getattr/ },
  { what: "builtins.list", file: zipOf(global("builtins", "list")), says: /refers to builtins\.list/ },
  { what: "subprocess.Popen", file: zipOf(global("subprocess", "Popen")), says: /refers to subprocess\.Popen/ },
  { what: "torch.load", file: zipOf(global("torch", "load")), says: /refers to torch\.load/ },
  {
    what: "torch.storage._load_from_bytes",
    file: zipOf(global("torch.storage", "_load_from_bytes")),
    says: /refers to torch\.storage\._load_from_bytes/,
  },
  {
    what: "a global named by the stack",
    file: zipOf([shortStr("os"), shortStr("system"), "\x93"]),
    says: /os\.system/,
  },
  {
    what: "a nested global",
    file: zipOf([shortStr("torch"), shortStr("os.system"), "\x93"]),
    says: /torch\.os\.system/,
  },
  {
    what: "a global named by numbers",
    file: zipOf([int(1), int(2), "\x93"]),
    says: /global with something that is not a string/,
  },
  { what: "a global named as a property of objects", file: zipOf(global("", "constructor")), says: /constructor/ },
  {
    what: "a global with control characters",
    file: zipOf(global("a\x07\x1b[31m", "b")),
    says: /refers to a\?\?\[31m\.b/,
  },
  {
    what: "a call in a plain value beside weights",
    file: zipOf(dict(["w", tensor()], ["x", global("os", "getcwd")])),
    says: /os\.getcwd/,
  },
  { what: "a call of a dict", file: zipOf(["})R"]), says: /calls a dict/ },
  {
    what: "a call of a storage class",
    file: zipOf([global("torch", "FloatStorage"), ")R"]),
    says: /calls torch\.FloatStorage/,
  },
  {
    what: "a call of torch.Tensor",
    file: zipOf([global("torch", "Tensor"), tuple(int(9)), "R"]),
    says: /calls torch\.Tensor/,
  },
  {
    what: "arguments that are no tuple",
    file: zipOf([global("torch", "Size"), "]R"]),
    says: /arguments that are not a tuple/,
  },
  {
    what: "a bytearray of a given size",
    file: zipOf(call(global("builtins", "bytearray"), int(2 ** 40))),
    says: /builtins\.bytearray/,
  },
  {
    what: "bytes of another encoding",
    file: zipOf(call(global("_codecs", "encode"), str("x"), str("zlib"))),
    says: /_codecs\.encode/,
  },
  {
    what: "a rebuild that is given os.system for its function",
    file: zipOf(call(global("torch._tensor", "_rebuild_from_type_v2"), global("os", "system"), "N", ")", "N")),
    says: /os\.system/,
  },
  {
    what: "a rebuild that is given another constructor for its function",
    file: zipOf(
      call(
        global("torch._tensor", "_rebuild_from_type_v2"),
        global("collections", "OrderedDict"),
        global("torch", "Tensor"),
        ")",
        "N",
      ),
    ),
    says: /_rebuild_from_type_v2/,
  },
  {
    what: "a rebuild of a rebuild of a rebuild",
    file: zipOf([
      global("torch._tensor", "_rebuild_from_type_v2"),
      [global("torch._tensor", "_rebuild_from_type_v2"), global("torch", "Tensor"), ")N"],
      "(tR",
    ]),
    says: /its pickle/,
  },
  {
    what: "a parameter of no tensor",
    file: zipOf([global("torch.nn.parameter", "Parameter"), tuple(int(1)), "\x81"]),
    says: /Parameter/,
  },
  { what: "NEWOBJ of an unknown class", file: zipOf([global("foo", "Bar"), ")\x81"]), says: /foo\.Bar/ },
  {
    what: "NEWOBJ_EX with keywords",
    file: zipOf([global("collections", "OrderedDict"), ")", dict(["a", "N"]), "\x92"]),
    says: /with keywords/,
  },
  { what: "BUILD on a list", file: zipOf(["]}b"]), says: /sets the state of a list/ },
  { what: "BUILD on a plain dict", file: zipOf(["}}b"]), says: /sets the state of a dict/ },
  { what: "BUILD on a function", file: zipOf([global("torch", "Size"), "}b"]), says: /sets the state of torch\.Size/ },
  {
    what: "BUILD on a dtype",
    file: zipOf([global("torch", "float16"), "}b"]),
    says: /sets the state of torch\.float16/,
  },
  {
    what: "BUILD of a tensor by set_",
    file: zipOf([tensor(), tuple(storage("0", 4), int(0)), "b"]),
    says: /sets the state of a tensor to a tuple/,
  },
  { what: "INST", file: zipOf(["(S'true'\nios\nsystem\n"]), says: /"os\.system" with the instruction INST/ },
  {
    what: "OBJ",
    file: zipOf(["(", global("collections", "OrderedDict"), "o"]),
    says: /collections\.OrderedDict with the instruction OBJ/,
  },
  { what: "EXT1", file: zipOf("\x82\x01"), says: /extension registry \(number 1\)/ },
  { what: "EXT2", file: zipOf("\x83\x01\x00"), says: /extension registry \(number 1\)/ },
  { what: "EXT4", file: zipOf("\x84\x01\x00\x00\x00"), says: /extension registry \(number 1\)/ },
  { what: "a buffer from outside", file: zipOf("\x97"), says: /buffer from outside/ },
  { what: "a persistent id of text", file: zipOf("P0\n"), says: /persistent id "0"/ },
  {
    what: "a persistent id of a number",
    file: zipOf([int(1), "Q"]),
    says: /persistent id that is not a torch storage/,
  },
  {
    what: "a persistent id with a class that is no storage",
    file: zipOf([tuple(str("storage"), global("torch", "Size"), str("0"), str("cpu"), int(4)), "Q"]),
    says: /persistent id that is not a torch storage/,
  },
  { what: "a whole module", file: zipOf([tuple(str("module"), orderedDict, "N", "N"), "Q"]), says: /whole module/ },
];

const pickles: BadCase[] = [
  { what: "no instruction", file: torchZip({ data: Buffer.alloc(0) }), says: /pickle is truncated/ },
  { what: "STOP alone", file: torchZip({ data: Buffer.from(".") }), says: /empty stack/ },
  { what: "an unknown instruction", file: zipOf("\xff"), says: /unknown instruction 0xff at byte 2/ },
  { what: "protocol 6", file: torchZip({ data: assemble("\x80\x06}.") }), says: /protocol 6/ },
  {
    what: "bytes behind its end",
    file: torchZip({ data: assemble(pickle(dict(["w", tensor()])), "more") }),
    says: /4 bytes behind the end/,
  },
  { what: "a string longer than the file", file: zipOf("X\xff\xff\xff\xff"), says: /truncated/ },
  { what: "a string of 2^64 - 1 bytes", file: zipOf(["\x8d", "\xff".repeat(8)]), says: /truncated/ },
  { what: "bytes of 2^63 bytes", file: zipOf(["\x8e", "\0".repeat(7), "\x80"]), says: /truncated/ },
  { what: "a bytearray of 2^62 bytes", file: zipOf(["\x96", "\0".repeat(7), "\x40"]), says: /truncated/ },
  { what: "a frame longer than the file", file: zipOf(["\x95", "\xff".repeat(8)]), says: /truncated/ },
  { what: "an integer of 4 GB", file: zipOf("\x8b\xff\xff\xff\xff"), says: /integer of 4294967295 bytes/ },
  {
    what: "an integer of 100,000 digits",
    file: zipOf(`L${"9".repeat(100_000)}L\n`),
    says: /integer that is not a number/,
  },
  { what: "an integer of letters", file: zipOf("Iabc\n"), says: /integer that is not a number/ },
  { what: "a float of letters", file: zipOf("Fabc\n"), says: /float that is not a number/ },
  { what: "a line that does not end", file: torchZip({ data: assemble("\x80\x02cos") }), says: /truncated/ },
  { what: "a string that is not UTF-8", file: zipOf("X\x01\x00\x00\x00\xff"), says: /not valid UTF-8/ },
  { what: "a string without quotes", file: zipOf("Sabc\n"), says: /without quotes/ },
  { what: "a mark that is missing", file: zipOf("t"), says: /lacks a mark/ },
  { what: "a value taken through a mark", file: zipOf("](a"), says: /empty stack/ },
  { what: "values below a mark", file: zipOf("]](a"), says: /empty stack/ },
  { what: "a memo that was never written", file: zipOf("h\x07"), says: /recalls value 7/ },
  { what: "a memo with a negative number", file: zipOf("]p-1\n"), says: /not a number/ },
  { what: "an append to a tuple", file: zipOf(")Na"), says: /appends to a tuple/ },
  { what: "an item set on a list", file: zipOf("]NNs"), says: /sets items on a list/ },
  { what: "a key without a value", file: zipOf("}(Nu"), says: /key without a value/ },
  { what: "100,000 marks", file: zipOf("(".repeat(100_000)), says: /nested too deep/ },
  { what: "a stack of 3 million values", file: zipOf("N".repeat(3_000_000)), says: /too deep a stack/ },
  { what: "3 million lists", file: zipOf("]0".repeat(3_000_000)), says: /more than 2000000 objects/ },
  {
    what: "tuples 1,000,000 deep",
    file: zipOf([")", "\x85".repeat(1_000_000)]),
    says: /holds a tuple, expected a state dict/,
  },
  {
    what: "a list that is doubled 100 times",
    file: zipOf([dict(), str("x"), "]", "2\x86".repeat(100), "s"]),
    says: /no tensors, found only plain values: "x"/,
  },
  { what: "a dict that holds itself", file: zipOf(["}q\x00", str("model"), "h\x00s"]), says: /no tensors/ },
  { what: "a name twice", file: zipOf(dict(["w", tensor()], ["w", tensor()])), says: /sets the key "w" twice/ },
  { what: "a tensor under a number", file: zipOf(["}", int(3), tensor(), "s"]), says: /a tensor under the number 3/ },
  { what: "None in place of weights", file: zipOf("N"), says: /holds None, expected a state dict/ },
  { what: "an empty dict", file: zipOf("}"), says: /no tensors, found nothing/ },
  {
    what: "wrappers in wrappers in wrappers",
    file: zipOf(dict(["model", dict(["model", dict(["model", dict(["model", dict(["w", tensor()])])])])])),
    says: /inside of "model"/,
  },
  {
    what: "a wrapper that is a list",
    file: zipOf(dict(["model", list(tensor())])),
    says: /holds a list, expected a state dict/,
  },
  {
    what: "weights beside a copy of them",
    file: zipOf(dict(["model", dict(["w", tensor()])], ["ema", dict(["w", tensor()])])),
    says: /"model", "ema"/,
  },
];

refuses("pickles are refused that refer to", scratch, calls);
refuses("pickles are refused with", scratch, pickles);
