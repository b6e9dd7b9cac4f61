import { Buffer } from "node:buffer";
import { type BadCase, refuses } from "./bad_case.js";
import { entry, safetensorsFile } from "./safetensors_writer.js";
import { Scratch } from "./support.js";

const good = { a: entry([2], 0, 8) };
const goodFile = safetensorsFile(good, 8);

function tensor(shape: unknown, begin: unknown, end: unknown, dtype?: unknown): Buffer {
  return safetensorsFile({ a: entry(shape, begin, end, dtype) }, 8);
}

const cases: BadCase[] = [
  { what: "a file without a byte", file: "", says: /is empty/ },
  { what: "a file shorter than the length of its header", file: goodFile.subarray(0, 5), says: /too short.*truncated/ },
  { what: "a file that ends in its header", file: goodFile.subarray(0, 20), says: /longer than the file.*truncated/ },
  { what: "a file that lost its last byte", file: goodFile.subarray(0, -1), says: /tensor "a".*truncated/ },
  {
    what: "a file with a byte too many",
    file: Buffer.concat([goodFile, Buffer.alloc(1)]),
    says: /has 1 bytes after its last/,
  },
  {
    what: "a header longer than the file",
    file: safetensorsFile(good, 8, 5000n),
    says: /header of 5000 bytes, longer/,
  },
  {
    what: "a header of more than 100 MB",
    file: safetensorsFile(good, 8, 100_000_001n),
    says: /the limit is 100000000/,
  },
  {
    what: "a header of 2^64 - 1 bytes",
    file: safetensorsFile(good, 8, 2n ** 64n - 1n),
    says: /18446744073709551615 bytes/,
  },
  { what: "a header that is not JSON", file: safetensorsFile('{"a": nonsense}'), says: /header is not valid JSON/ },
  { what: "a header that is not finished", file: safetensorsFile('{"a": {'), says: /header is not valid JSON/ },
  { what: "a header that is an array", file: safetensorsFile("[]"), says: /header is an array, expected an object/ },
  { what: "a header that is null", file: safetensorsFile("null"), says: /header is null/ },
  { what: "a header without a character", file: safetensorsFile("", 8), says: /header is not valid JSON/ },
  {
    what: "a header that is not UTF-8",
    file: safetensorsFile(Buffer.from('{"\xff": 1}', "latin1")),
    says: /not valid UTF-8/,
  },
  { what: "a header nested 100,000 deep", file: safetensorsFile(`{"a":${"[".repeat(100_000)}`), says: /nested deeper/ },
  {
    what: "a header of 3 million values",
    file: safetensorsFile(`{"a":[${"0,".repeat(3_000_000)}`),
    says: /more than 2000000 values/,
  },
  {
    what: "a tensor name twice",
    file: safetensorsFile(`{"a":${JSON.stringify(entry([1], 0, 4))},"a":${JSON.stringify(entry([1], 4, 8))}}`, 8),
    says: /more than once: "a"/,
  },
  {
    what: "a tensor name twice, spelled differently",
    file: safetensorsFile(`{"a":${JSON.stringify(entry([1], 0, 4))},"\\u0061":${JSON.stringify(entry([1], 4, 8))}}`, 8),
    says: /more than once: "a"/,
  },
  {
    what: "a field of a tensor twice",
    file: safetensorsFile('{"a":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}', 8),
    says: /more than once: "shape"/,
  },
  { what: "a header without tensors", file: safetensorsFile({}), says: /no tensors/ },
  {
    what: "a header with metadata alone",
    file: safetensorsFile({ __metadata__: { format: "pt" } }),
    says: /no tensors/,
  },
  {
    what: "metadata that is not text",
    file: safetensorsFile({ __metadata__: { n: 1 }, ...good }, 8),
    says: /__metadata__/,
  },
  { what: "a tensor that is a number", file: safetensorsFile({ a: 1 }), says: /tensor "a".*a number, expected/ },
  { what: "a tensor that is null", file: safetensorsFile({ a: null }), says: /tensor "a".*null, expected/ },
  { what: "no dtype", file: tensor([2], 0, 8, null), says: /tensor "a".*unknown dtype "null"/ },
  { what: "an unknown dtype", file: tensor([2], 0, 8, "F99"), says: /tensor "a".*unknown dtype "F99"/ },
  { what: "a dtype in small letters", file: tensor([2], 0, 8, "f32"), says: /tensor "a".*unknown dtype "f32"/ },
  { what: "too many bytes of 4 bits", file: tensor([14], 0, 8, "F4"), says: /tensor "a".*8 bytes.*needs 7$/ },
  { what: "half a byte of 4 bits", file: tensor([15], 0, 8, "F4"), says: /tensor "a".*8 bytes.*needs 7\.5$/ },
  { what: "too few bytes of 6 bits", file: tensor([8], 0, 5, "F6_E2M3"), says: /tensor "a".*5 bytes.*needs 6$/ },
  { what: "too few bytes of scales", file: tensor([8], 0, 7, "F8_E8M0"), says: /tensor "a".*7 bytes.*needs 8$/ },
  { what: "a dtype named as a property of objects", file: tensor([2], 0, 8, "constructor"), says: /unknown dtype/ },
  {
    what: "no shape",
    file: safetensorsFile({ a: { dtype: "F32", data_offsets: [0, 8] } }, 8),
    says: /tensor "a".*shape "none"/,
  },
  { what: "a shape that is a number", file: tensor(2, 0, 8), says: /tensor "a".*shape "2"/ },
  { what: "a negative dimension", file: tensor([-2], 0, 8), says: /tensor "a".*shape "\[-2\]"/ },
  { what: "a fractional dimension", file: tensor([1.5], 0, 6), says: /tensor "a".*shape "\[1.5\]"/ },
  { what: "a dimension that is text", file: tensor(["2"], 0, 8), says: /tensor "a".*shape/ },
  { what: "a dimension beyond 2^53", file: tensor([2 ** 60], 0, 8), says: /tensor "a".*shape/ },
  { what: "a shape that overflows", file: tensor([2 ** 40, 2 ** 40], 0, 8), says: /tensor "a".*overflows/ },
  { what: "an empty shape that overflows", file: tensor([0, 2 ** 40, 2 ** 40], 0, 0), says: /tensor "a".*overflows/ },
  { what: "bytes that overflow", file: tensor([2 ** 52], 0, 8), says: /tensor "a".*overflows/ },
  { what: "fewer bytes than the shape needs", file: tensor([3], 0, 8), says: /tensor "a".*8 bytes.*needs 12/ },
  { what: "more bytes than the shape needs", file: tensor([1], 0, 8), says: /tensor "a".*8 bytes.*needs 4/ },
  {
    what: "no offsets",
    file: safetensorsFile({ a: { dtype: "F32", shape: [2] } }, 8),
    says: /tensor "a".*data_offsets "none"/,
  },
  {
    what: "three offsets",
    file: safetensorsFile({ a: { ...good.a, data_offsets: [0, 8, 8] } }, 8),
    says: /tensor "a".*data_offsets/,
  },
  { what: "a negative offset", file: tensor([2], -8, 0), says: /tensor "a".*data_offsets "\[-8,0\]"/ },
  { what: "a fractional offset", file: tensor([2], 0.5, 8.5), says: /tensor "a".*data_offsets/ },
  {
    what: "offsets that end before they begin",
    file: tensor([2], 8, 0),
    says: /tensor "a".*end \(0\) before they begin \(8\)/,
  },
  { what: "offsets beyond the file", file: tensor([2], 8, 16), says: /tensor "a".*ends at byte 16.*has 8/ },
  { what: "offsets of 2^53 - 1", file: tensor([2], 0, Number.MAX_SAFE_INTEGER), says: /tensor "a".*ends at byte/ },
  {
    what: "two tensors on the same bytes",
    file: safetensorsFile({ a: entry([2], 0, 8), b: entry([2], 0, 8) }, 8),
    says: /tensor "b".*overlaps the bytes of "a"/,
  },
  {
    what: "two tensors that overlap",
    file: safetensorsFile({ a: entry([2], 0, 8), b: entry([2], 4, 12) }, 12),
    says: /tensor "b".*overlaps the bytes of "a"/,
  },
  {
    what: "a hole between tensors",
    file: safetensorsFile({ a: entry([1], 0, 4), b: entry([1], 8, 12) }, 12),
    says: /tensor "b".*hole of 4 bytes/,
  },
  {
    what: "a hole before the first tensor",
    file: tensor([1], 4, 8),
    says: /tensor "a".*hole of 4 bytes after the header/,
  },
  {
    what: "a tensor name with line breaks",
    file: safetensorsFile({ "a\n\u0007b": entry([1], 4, 8) }, 8),
    says: /tensor "a\\n\\u0007b"/,
  },
  {
    what: "a tensor name of a megabyte",
    file: safetensorsFile({ ["n".repeat(1_000_000)]: entry([1], 4, 8) }, 8),
    says: /tensor "nnn/,
  },
].map((bad) => ({ name: "model.safetensors", ...bad }));

refuses("safetensors files are refused with", new Scratch(), cases);
