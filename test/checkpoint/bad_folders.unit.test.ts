import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:net";
import path from "node:path";
import process from "node:process";
import { after } from "node:test";
import { type BadCase, refuses } from "./bad_case.js";
import { entry, safetensorsFile } from "./safetensors_writer.js";
import { Scratch } from "./support.js";
import { torchZip } from "./torch_writer.js";

const scratch = new Scratch();
const one = safetensorsFile({ a: entry([2], 0, 8) }, 8);
const other = safetensorsFile({ b: entry([2], 0, 8) }, 8);
const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";

function index(weightMap: unknown): string {
  return JSON.stringify({ metadata: { total_size: 16 }, weight_map: weightMap });
}

function indexed(weightMap: unknown, files: Record<string, Uint8Array | string> = { "one.safetensors": one }) {
  return { "model.safetensors.index.json": typeof weightMap === "string" ? weightMap : index(weightMap), ...files };
}

const indexes: BadCase[] = [
  {
    what: "a missing file",
    folder: indexed({ a: "one.safetensors", b: "two.safetensors" }),
    says: /1 of 2 files.*two\.safetensors/,
  },
  {
    what: "a tensor that is in another file",
    folder: indexed(
      { a: "two.safetensors", b: "one.safetensors" },
      { "one.safetensors": one, "two.safetensors": other },
    ),
    says: /"a" \(two\.safetensors, found in one\.safetensors\)/,
  },
  {
    what: "a tensor that is in two files",
    folder: indexed(
      { a: "one.safetensors", b: "two.safetensors" },
      {
        "one.safetensors": one,
        "two.safetensors": safetensorsFile({ a: entry([1], 0, 4), b: entry([1], 4, 8) }, 8),
      },
    ),
    says: /two\.safetensors: tensor "a": is in .*one\.safetensors too/,
  },
  {
    what: "a file above its folder",
    folder: indexed({ a: "../one.safetensors" }),
    says: /"a".*"\.\.\/one\.safetensors", expected/,
  },
  {
    what: "a file above its folder, in the end",
    folder: indexed({ a: "x/../../one.safetensors" }),
    says: /"a".*expected the name of a file inside/,
  },
  { what: "an absolute path", folder: indexed({ a: "/etc/passwd" }), says: /"a".*"\/etc\/passwd", expected/ },
  { what: "a path of Windows", folder: indexed({ a: "C:\\one.safetensors" }), says: /"a".*expected/ },
  { what: "a path up, as Windows writes it", folder: indexed({ a: "..\\one.safetensors" }), says: /"a".*expected/ },
  { what: "a null character", folder: indexed({ a: "one\0.safetensors" }), says: /"a".*expected/ },
  { what: "an empty file name", folder: indexed({ a: "" }), says: /"a".*expected/ },
  { what: "a file name that is a number", folder: indexed({ a: 1 }), says: /"a".*a number for its file/ },
  {
    what: "a folder in place of a file",
    folder: indexed({ a: "sub" }, { "sub/one.safetensors": one }),
    says: /is a folder, expected a regular file/,
  },
  {
    what: "a tensor twice",
    folder: indexed('{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}'),
    says: /more than once: "a"/,
  },
  { what: "no weight_map", folder: indexed('{"metadata":{}}'), says: /only "metadata", expected a weight_map/ },
  { what: "a weight_map that is a list", folder: indexed([]), says: /weight_map that is an array/ },
  { what: "an empty weight_map", folder: indexed({}), says: /empty weight_map/ },
  { what: "no JSON", folder: indexed("not json"), says: /index\.json: is not valid JSON/ },
  { what: "an array", folder: indexed("[]"), says: /index\.json: is an array/ },
  {
    what: "no byte",
    folder: { "model.safetensors.index.json": "", "one.safetensors": one },
    says: /index\.json: is empty/,
  },
  { what: "a git-lfs pointer", folder: indexed(pointer), says: /index\.json: is a git-lfs pointer/ },
  {
    what: "no UTF-8",
    folder: { "model.safetensors.index.json": Buffer.from('{"\xff":1}', "latin1") },
    says: /not valid UTF-8/,
  },
];

const folders: BadCase[] = [
  { what: "nothing in it", folder: {}, says: /holds no weights, found an empty folder; expected model\.safetensors/ },
  { what: "a config alone", folder: { "config.json": "{}" }, says: /holds no weights, found config\.json/ },
  { what: "GGUF alone", folder: { "m.gguf": "GGUF" }, says: /found m\.gguf \(GGUF\)/ },
  {
    what: "weights of other frameworks alone",
    folder: { "tf_model.h5": "x", "flax_model.msgpack": "x", "model.onnx": "x", "config.json": "{}" },
    says: /flax_model\.msgpack \(Flax\), model\.onnx \(ONNX\), tf_model\.h5 \(TensorFlow\/Keras\)/,
  },
  {
    what: "an adapter alone",
    folder: { "adapter_model.safetensors": one },
    says: /adapter_model\.safetensors \(an adapter/,
  },
  {
    what: "an optimizer alone",
    folder: { "optimizer.bin": "x", "training_args.bin": "x" },
    says: /holds no weights, found optimizer\.bin, training_args\.bin/,
  },
  {
    what: "a git-lfs pointer",
    folder: { "model.safetensors": pointer },
    says: /is a git-lfs pointer.*git lfs pull/,
    names: "model.safetensors",
  },
  {
    what: "a web page",
    folder: { "pytorch_model.bin": "<!DOCTYPE html><html>404" },
    says: /is a web page/,
    names: "pytorch_model.bin",
  },
  {
    what: "GGUF under another name",
    folder: { "pytorch_model.bin": "GGUF\x03\0\0\0" },
    says: /is a GGUF file/,
    names: "pytorch_model.bin",
  },
  {
    what: "HDF5 under another name",
    folder: { "model.bin": Buffer.from("\x89HDF\r\n", "latin1") },
    says: /is an HDF5 file/,
    names: "model.bin",
  },
  {
    what: "gzip under another name",
    folder: { "model.bin": Buffer.from([0x1f, 0x8b, 8, 0]) },
    says: /is a gzip archive/,
    names: "model.bin",
  },
  {
    what: "text under another name",
    folder: { "model.pt": "just some text" },
    says: /neither a safetensors nor a torch file.*6a75737420736f6d/,
    names: "model.pt",
  },
  {
    what: "a shard missing",
    folder: { "model-00001-of-00003.safetensors": one, "model-00003-of-00003.safetensors": other },
    says: /lacks 1 of the 3 shards that model-00001-of-00003\.safetensors belongs to: 00002/,
  },
  {
    what: "most of 99,999 shards missing",
    folder: { "pytorch_model-00001-of-99999.bin": torchZip() },
    says: /lacks 99998 of the 99999 shards.*: 00002, .* and 99988 more/,
  },
  {
    what: "shard 2 of 1",
    folder: { "model-00001-of-00001.safetensors": one, "model-00002-of-00001.safetensors": other },
    says: /more than the 1 shards/,
  },
  {
    what: "a shard under two names",
    folder: { "model-1-of-1.safetensors": one, "model-00001-of-00001.safetensors": one },
    says: /same shard under two names/,
  },
  {
    what: "two sets of shards",
    folder: { "a-00001-of-00001.safetensors": one, "b-00001-of-00001.safetensors": other },
    says: /shards of more than one checkpoint/,
  },
  {
    what: "several weights files",
    folder: { "a.safetensors": one, "b.safetensors": other },
    says: /several weights files.*a\.safetensors, b\.safetensors/,
  },
  {
    what: "several torch files",
    folder: { "consolidated.00.pth": torchZip(), "consolidated.01.pth": torchZip() },
    says: /several weights files/,
  },
  {
    what: "two indexes",
    folder: { "a.safetensors.index.json": "{}", "b.safetensors.index.json": "{}" },
    says: /more than one index/,
  },
  {
    what: "a tensor in two shards",
    folder: { "model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": one },
    says: /tensor "a".*too: it is not clear/,
    names: "model-00002-of-00002.safetensors",
  },
  {
    what: "a folder in place of the weights",
    folder: { "model.safetensors/x": "x" },
    says: /model\.safetensors: is a folder, expected/,
  },
  {
    what: "a link to a file that is gone",
    make: () => {
      const folder = scratch.folder();
      symlinkSync("../blobs/gone", path.join(folder, "model.safetensors"));
      return folder;
    },
    says: /model\.safetensors: there is no such file or folder \(or it is a link to one that is gone\)/,
  },
  {
    what: "a link to itself",
    make: () => {
      const folder = scratch.folder();
      symlinkSync("model.safetensors", path.join(folder, "model.safetensors"));
      return folder;
    },
    says: /links go round in a circle/,
  },
];

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

const root = process.getuid?.() === 0 ? "root may read everything" : false;
const paths: BadCase[] = [
  {
    what: "that is not there",
    make: () => path.join(scratch.folder(), "none"),
    says: /none: there is no such file or folder/,
  },
  { what: "in a file", make: () => path.join(scratch.file("model.bin", "x"), "y"), says: /not a folder/ },
  {
    what: "with a null character",
    make: () => `${scratch.folder()}/a\0b`,
    says: /a\\x00b: the path holds a null character/,
    names: "a",
  },
  {
    what: "with a name of 1,000 characters",
    make: () => path.join(scratch.folder(), "n".repeat(1000)),
    says: /too long/,
  },
  {
    what: "of a pipe",
    make: () => {
      const file = path.join(scratch.folder(), "model.safetensors");
      execFileSync("mkfifo", [file]);
      return file;
    },
    says: /is a pipe, expected a regular file/,
  },
  {
    what: "of a socket",
    make: async () => {
      const file = path.join(scratch.folder(), "socket");
      const server = createServer().listen(file);
      servers.push(server);
      await once(server, "listening");
      return file;
    },
    says: /is a socket, expected a regular file/,
  },
  { what: "of a device", make: () => "/dev/zero", says: /is a device, expected a regular file/ },
  {
    what: "of a file that may not be read",
    skip: root,
    make: () => {
      const file = scratch.file("model.bin", "x");
      chmodSync(file, 0);
      return file;
    },
    says: /no permission/,
  },
  {
    what: "of a folder that may not be read",
    skip: root,
    make: () => {
      const folder = path.join(scratch.folder(), "closed");
      mkdirSync(folder, { mode: 0 });
      return folder;
    },
    says: /no permission/,
  },
];

refuses("indexes are refused with", scratch, indexes);
refuses("folders are refused with", scratch, folders);
refuses("paths are refused", scratch, paths);
