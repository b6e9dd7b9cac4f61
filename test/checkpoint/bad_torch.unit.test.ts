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
  pickle,
  storage,
  str,
  type TensorParts,
  tensor,
  tuple,
} from "./pickle_writer.js";
import { Scratch } from "./support.js";
import {
  floats,
  legacyStorage,
  legacyTail,
  torchLegacy,
  torchZip,
  torchZipEntries,
  torchZipWith,
} from "./torch_writer.js";
import { zipFile } from "./zip_writer.js";

const scratch = new Scratch();

/** A pickle in an archive that is right in all else. */
function zipOf(object: Code): Buffer {
  return torchZip({ object });
}

function zipOfTensor(parts: TensorParts): Buffer {
  return zipOf(dict(["w", tensor(parts)]));
}

const goodZip = torchZip();
const goodLegacy = torchLegacy();

const tensors: BadCase[] = [
  {
    what: "an offset out of its storage",
    file: zipOfTensor({ offset: int(1) }),
    says: /tensor "w".*byte 20 of its storage "0", which has 16/,
  },
  {
    what: "a negative offset",
    file: zipOfTensor({ offset: int(-1) }),
    says: /tensor "w".*the number -1 for its storage offset/,
  },
  { what: "an offset of 2^70", file: zipOfTensor({ offset: int(2n ** 70n) }), says: /tensor "w".*storage offset/ },
  {
    what: "an offset that is text",
    file: zipOfTensor({ offset: str("0") }),
    says: /tensor "w".*a string for its storage offset/,
  },
  {
    what: "a stride out of its storage",
    file: zipOfTensor({ strides: tuple(int(3), int(1)) }),
    says: /tensor "w".*byte 20/,
  },
  {
    what: "a negative stride",
    file: zipOfTensor({ strides: tuple(int(-2), int(1)) }),
    says: /tensor "w".*strides that are not/,
  },
  {
    what: "a stride of 2^53 - 1",
    file: zipOfTensor({ strides: tuple(int(2n ** 53n - 1n), int(1)) }),
    says: /tensor "w".*reaches to byte/,
  },
  {
    what: "a shape larger than its storage",
    file: zipOfTensor({ shape: tuple(int(3), int(2)) }),
    says: /tensor "w".*byte 24/,
  },
  {
    what: "a negative dimension",
    file: zipOfTensor({ shape: tuple(int(-2), int(2)) }),
    says: /tensor "w".*shape that is not/,
  },
  {
    what: "a fractional dimension",
    file: zipOfTensor({ shape: tuple("G\x3f\xf8\0\0\0\0\0\0", int(1)) }),
    says: /tensor "w".*shape that is not/,
  },
  {
    what: "a dimension that is True",
    file: zipOfTensor({ shape: tuple("\x88", int(1)) }),
    says: /tensor "w".*shape that is not/,
  },
  {
    what: "a shape that overflows, without strides",
    file: zipOfTensor({ shape: tuple(int(2n ** 40n), int(2n ** 40n)), strides: tuple(int(0), int(0)) }),
    says: /tensor "w".*overflows/,
  },
  {
    what: "fewer strides than dimensions",
    file: zipOfTensor({ strides: tuple(int(1)) }),
    says: /tensor "w".*1 strides for 2 dimensions/,
  },
  { what: "a shape that is None", file: zipOfTensor({ shape: "N" }), says: /tensor "w".*shape/ },
  { what: "a storage that is a dict", file: zipOfTensor({ storage: "}" }), says: /_rebuild_tensor_v2/ },
  { what: "a storage of -1 elements", file: zipOfTensor({ elements: -1 }), says: /not a torch storage/ },
  { what: "a storage of 2^53 - 1 elements", file: zipOfTensor({ elements: 2n ** 53n - 1n }), says: /impossible size/ },
  {
    what: "a storage of more bytes than its record",
    file: zipOfTensor({ elements: 5 }),
    says: /tensor "w".*16 bytes.*has 20/,
  },
  {
    what: "a storage without a record",
    file: zipOfTensor({ key: "7" }),
    says: /tensor "w".*"archive\/data\/7" is missing/,
  },
  {
    what: "a storage key that leads elsewhere",
    file: zipOfTensor({ key: "../version" }),
    says: /tensor "w".*is missing/,
  },
  { what: "a quantized storage", file: zipOfTensor({ type: "QInt8Storage" }), says: /tensor "w".*torch\.QInt8Storage/ },
  { what: "an unknown storage class", file: zipOfTensor({ type: "StringStorage" }), says: /torch\.StringStorage/ },
  { what: "the negative bit", file: zipOfTensor({ metadata: dict(["neg", "\x88"]) }), says: /tensor "w".*"neg" set/ },
  { what: "metadata that is a list", file: zipOfTensor({ metadata: "]" }), says: /tensor "w".*metadata/ },
  {
    what: "too few arguments",
    file: zipOf(dict(["w", call(global("torch._utils", "_rebuild_tensor_v2"), storage("0", 4))])),
    says: /_rebuild_tensor_v2/,
  },
];

const archives: BadCase[] = [
  { what: "its end missing", file: goodZip.subarray(0, -30), says: /not a whole zip archive/ },
  { what: "its beginning alone", file: goodZip.subarray(0, 4), says: /not a whole zip archive/ },
  { what: "bytes behind its end", file: Buffer.concat([goodZip, Buffer.alloc(9)]), says: /not a whole zip archive/ },
  { what: "no record", file: zipFile([]), says: /no data\.pkl, found nothing/ },
  {
    what: "no data.pkl",
    file: zipFile([{ name: "handler.py", data: "x" }]),
    says: /no data\.pkl, found "handler\.py"/,
  },
  {
    what: "two data.pkl",
    file: torchZip({ more: [{ name: "other/data.pkl", data: "" }] }),
    says: /more than one data\.pkl/,
  },
  {
    what: "a record twice",
    file: torchZip({ more: [{ name: "archive/data/0", data: floats(4) }] }),
    says: /"archive\/data\/0" twice/,
  },
  {
    what: "the code of a program",
    file: torchZip({ more: [{ name: "archive/code/x.py", data: "" }] }),
    says: /TorchScript/,
  },
  {
    what: "the constants of a program",
    file: torchZip({ more: [{ name: "archive/constants.pkl", data: "" }] }),
    says: /TorchScript/,
  },
  { what: "big-endian data", file: torchZip({ byteOrder: "big" }), says: /big-endian/ },
  { what: "data of another byte order", file: torchZip({ byteOrder: "middle" }), says: /unknown byte order "middle"/ },
  { what: "a long byte order", file: torchZip({ byteOrder: "x".repeat(1000) }), says: /unknown byte order/ },
  {
    what: "compressed weights",
    file: torchZipWith("archive/data/0", { deflate: true }),
    says: /compressed record "archive\/data\/0" \(method 8\)/,
  },
  {
    what: "a compressed data.pkl",
    file: torchZipWith("archive/data.pkl", { deflate: true }),
    says: /compressed record "archive\/data\.pkl"/,
  },
  {
    what: "a bomb: 20 MB of zeros, compressed",
    file: torchZipWith("archive/data.pkl", { deflate: true, data: Buffer.alloc(20_000_000) }),
    says: /compressed record "archive\/data\.pkl"/,
  },
  { what: "a bomb: a record inside of another", file: overlapping(), says: /records that overlap/ },
  {
    what: "weights that go on into the directory",
    file: directoryAsWeights(),
    says: /records that overlap: "archive\/data\/0" and "the directory"/,
  },
  {
    what: "an encrypted record",
    file: torchZipWith("archive/data/0", { flags: 1, deflate: true }),
    says: /encrypted record "archive\/data\/0"/,
  },
  { what: "strong encryption", file: torchZipWith("archive/data/0", { flags: 0x41 }), says: /strong encryption/ },
  {
    what: "a data.pkl that claims 1 GB",
    file: torchZipWith("archive/data.pkl", { claimedBytes: 2 ** 30 }),
    says: /"archive\/data\.pkl"/,
  },
  { what: "a data.pkl larger than any", file: hugePickle(), says: /data\.pkl of 67108865 bytes, the limit is/ },
  {
    what: "weights that claim 4 GB",
    file: torchZipWith("archive/data/0", { claimedBytes: 2 ** 32 - 2 }),
    says: /"archive\/data\/0"/,
  },
  {
    what: "weights that claim 2^60 bytes in zip64",
    file: torchZipWith("archive/data/0", { claimedBytes: 2 ** 60, zip64: true }),
    says: /"archive\/data\/0"/,
  },
  {
    what: "a record beyond 2^63 in zip64",
    file: torchZipWith("archive/data/0", { offset: 2 ** 63, zip64: true }),
    says: /record "archive\/data\/0" begins at byte 9223372036854776000/,
  },
  {
    what: "a record beyond the end",
    file: torchZipWith("archive/data/0", { offset: 100_000 }),
    says: /record "archive\/data\/0" begins at byte 100000/,
  },
  {
    what: "a record that begins elsewhere",
    file: torchZipWith("archive/data/0", { offset: 3 }),
    says: /"archive\/data\/0"/,
  },
  {
    what: "sizes that differ between headers",
    file: torchZipWith("archive/data/0", { localBytes: 12 }),
    says: /12 bytes in one header and 16/,
  },
  {
    what: "names that differ between headers",
    file: torchZipWith("archive/data/0", { localName: "archive/data/1" }),
    says: /two headers.*differ/,
  },
  {
    what: "a record name that leaves the archive",
    file: torchZip({ more: [{ name: "../x", data: "" }] }),
    says: /not a whole zip archive.*\.\.\/x/,
  },
  {
    what: "fewer records than it claims",
    file: zipFile(torchZipEntries(), { count: 9 }),
    says: /truncated or damaged/,
  },
  {
    what: "65,535 records that are not there",
    file: zipFile(torchZipEntries(), { count: 65_535 }),
    says: /claims 65535 records/,
  },
  {
    what: "2^63 records that are not there",
    file: zipFile(torchZipEntries(), { zip64: { count: 2n ** 63n } }),
    says: /claims 9223372036854776000 records/,
  },
  {
    what: "a zip64 directory beyond 2^63",
    file: zipFile(torchZipEntries(), { zip64: { count: 4n, directoryOffset: 2n ** 63n } }),
    says: /truncated or damaged/,
  },
  {
    what: "a zip64 end record beyond 2^63",
    file: zipFile(torchZipEntries(), { zip64: { count: 4n, recordOffset: 2n ** 63n } }),
    says: /truncated or damaged/,
  },
  {
    what: "a data.pkl that was changed",
    file: torchZipWith("archive/data.pkl", { crc: 1 }),
    says: /does not match its checksum/,
  },
];

/** A record whose data holds another record whole: nested often enough, such archives become bombs. */
function overlapping(): Buffer {
  const inner = { name: "archive/data/1", data: floats(4) };
  const outer = zipFile([inner]).subarray(0, 30 + inner.name.length + inner.data.length);
  const nested = (offset: number) =>
    torchZip({ storages: { 0: outer }, more: [{ ...inner, data: "", offset, claimedBytes: 16, localBytes: 0 }] });
  return nested(nested(0).indexOf(outer));
}

/** Headers and pickle agree that the last record is longer than it is. */
function directoryAsWeights(): Buffer {
  const object = dict(["w", tensor({ elements: 8 })]);
  const entries = torchZipEntries({ object }).filter(({ name }) => name !== "archive/version");
  return zipFile(
    entries.map((entry) => (entry.name.includes("/data/") ? { ...entry, claimedBytes: 32, localBytes: 32 } : entry)),
  );
}

function hugePickle(): Buffer {
  return torchZip({ data: Buffer.alloc(64 * 1024 * 1024 + 1, "N") });
}

const view = (offset: number, size: number) => tuple(str("v"), int(offset), int(size));

function legacyOf(stored: Code): Buffer {
  return torchLegacy({ object: dict(["w", tensor({ storage: stored })]) });
}

const legacy: BadCase[] = [
  {
    what: "another magic number",
    file: torchLegacy({ magic: int(2n ** 70n) }),
    says: /magic number: not a torch file/,
  },
  { what: "a bare pickle", file: pickle(dict(["w", "N"])), says: /magic number: not a torch file/ },
  {
    what: "a bare pickle that calls os.system",
    file: pickle(call(global("os", "system"), str("true"))),
    says: /os\.system/,
  },
  {
    what: "another version",
    file: torchLegacy({ version: int(1002) }),
    says: /version the number 1002, expected 1001/,
  },
  { what: "a big-endian machine", file: torchLegacy({ machine: dict(["little_endian", "\x89"]) }), says: /big-endian/ },
  { what: "a call in its machine", file: torchLegacy({ machine: global("os", "system") }), says: /os\.system/ },
  { what: "a storage in its machine", file: torchLegacy({ machine: storage("0", 4) }), says: /persistent id outside/ },
  {
    what: "its keys missing",
    file: assemble(goodLegacy.subarray(0, goodLegacy.indexOf("\x80\x02](", 0, "latin1"))),
    says: /pickle is truncated/,
  },
  { what: "keys that are a dict", file: torchLegacy({ keys: "}" }), says: /a dict for its list of storages/ },
  {
    what: "keys that are numbers",
    file: torchLegacy({ keys: list(int(0)) }),
    says: /the number 0 in its list of storages/,
  },
  {
    what: "a key that nothing refers to",
    file: torchLegacy({ keys: list(str("0"), str("1")) }),
    says: /storage "1" that nothing refers to/,
  },
  { what: "a key twice", file: torchLegacy({ keys: list(str("0"), str("0")) }), says: /storage "0" twice/ },
  {
    what: "a storage without a key",
    file: torchLegacy({ keys: list(), tail: Buffer.alloc(0) }),
    says: /tensor "w".*storage "0" is not in the file/,
  },
  { what: "weights that are missing", file: torchLegacy({ tail: Buffer.alloc(0) }), says: /needs 8 bytes/ },
  { what: "weights that end too early", file: goodLegacy.subarray(0, -1), says: /storage "0" goes on to .*truncated/ },
  {
    what: "another count of elements",
    file: torchLegacy({ tail: legacyTail(5n, floats(5)) }),
    says: /5 elements.*says 4/,
  },
  {
    what: "a negative count of elements",
    file: torchLegacy({ tail: legacyTail(-4n, floats(4)) }),
    says: /-4 elements.*says 4/,
  },
  {
    what: "a count of 2^63 - 1 elements",
    file: torchLegacy({ tail: legacyTail(2n ** 63n - 1n, floats(4)) }),
    says: /9223372036854775807 elements/,
  },
  {
    what: "a storage of 1 TB",
    file: legacyOf(legacyStorage("0", 2 ** 38)),
    says: /storage "0" of 4 elements.*says 274877906944/,
  },
  {
    what: "a view out of its storage",
    file: legacyOf(legacyStorage("0", 4, view(1, 4))),
    says: /view that reaches out of its storage "0"/,
  },
  {
    what: "a view with a negative offset",
    file: legacyOf(legacyStorage("0", 4, view(-1, 4))),
    says: /view that reaches out/,
  },
  { what: "a view that is no tuple", file: legacyOf(legacyStorage("0", 4, int(1))), says: /view that reaches out/ },
  {
    what: "a tensor out of its view",
    file: legacyOf(legacyStorage("0", 4, view(2, 2))),
    says: /tensor "w".*byte 16.*which has 8/,
  },
  {
    what: "a quantized storage",
    file: legacyOf(legacyStorage("0", 4, "N", "QInt8Storage")),
    says: /torch\.QInt8Storage/,
  },
  {
    what: "a storage of two sizes",
    file: torchLegacy({
      object: dict(
        ["a", tensor({ storage: legacyStorage("0", 4) })],
        ["b", tensor({ storage: legacyStorage("0", 5) })],
      ),
    }),
    says: /storage "0" once with 16 and once with 20 bytes/,
  },
  {
    what: "a view in a zip archive",
    file: zipOf(dict(["w", tensor({ storage: legacyStorage("0", 4) })])),
    says: /too many parts/,
  },
  {
    what: "a tar archive",
    file: Buffer.concat([Buffer.alloc(257, "a"), Buffer.from("ustar"), Buffer.alloc(250)]),
    says: /tar archive/,
  },
];

refuses("tensors are refused with", scratch, tensors);
refuses("torch archives are refused with", scratch, archives);
refuses("torch streams are refused with", scratch, legacy);
