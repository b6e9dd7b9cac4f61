// Reads the machine code of the kernels in build-nvcc/, which scripts/kernel_registers.mjs builds, and compares it with
// test/native/sass.json: loads that are under way while the main loop computes, loads ahead of the wait for earlier
// kernels, widths of loads, local memory, size. What a source says of these, only the machine code shows.
//   node scripts/check_sass.mjs [--built] [--json] [--update] [PART OF A FILE NAME ...]
//   node scripts/check_sass.mjs [--json] --object FILE [--object FILE ...]
// --built: the objects are taken as they lie, else what has changed is compiled first. --json: all numbers as JSON in place of
// the table. --update writes what is recorded of kernels (what the file itself asks for must hold even so). With parts
// of file names only these files are shown, and nothing is written. --object: shows what else nvcc made, for other
// architectures for example; projection_few.120.cubin has the kernels of projection_few.cu.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { disassemble, fetchedDisassembler } from "./cuda_disassembler.mjs";
import { fetchedToolkit, ToolkitError } from "./cuda_toolkit.mjs";
import { buildAddon, compiledFiles, demangle, noToolkit, readLog, root } from "./nvcc_build.mjs";
import { compare, ruleOf, updated } from "./sass/expectations.mjs";
import { readListing } from "./sass/listing.mjs";
import { measure } from "./sass/measure.mjs";
import { tableOf } from "./sass/table.mjs";

const expectations = path.join(root, "test", "native", "sass.json");

/** [{ file, kernel, architecture, measured }] of one file's kernels. */
async function measureFile(tools, { file, object, log }, expected) {
  const listed = readListing(await disassemble(tools, object));
  const names = demangle(listed.map(({ mangled }) => mangled));
  const said = existsSync(log) ? readFileSync(log, "utf8") : "";
  const registers = new Map(
    readLog(said).map(({ architecture, mangled, registers }) => [`${architecture} ${mangled}`, registers]),
  );
  return listed.map((listing, i) => {
    const { architecture, mangled } = listing;
    const measured = measure(listing, ruleOf(expected, file, names[i]));
    return {
      file,
      kernel: names[i],
      architecture,
      measured: { registers: registers.get(`${architecture} ${mangled}`), ...measured },
    };
  });
}

async function measureAll(tools, files, expected) {
  const results = files.map(() => []);
  let next = 0;
  const work = async () => {
    while (next < files.length) {
      const place = next++;
      results[place] = await measureFile(tools, files[place], expected);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results.flat();
}

/** The objects given, or those of the build whose names have one of these parts. */
function filesOf(objects, parts) {
  if (objects.length > 0) {
    const sourceOf = (object) => `${path.basename(object).split(".")[0]}.cu`;
    return objects.map((object) => ({ file: sourceOf(object), object, log: `${object}.log` }));
  }
  const files = compiledFiles().filter(({ file }) => parts.length === 0 || parts.some((part) => file.includes(part)));
  if (files.length === 0) throw new Error(`No file of kernels has ${parts.join(" or ")} in its name.`);
  return files;
}

/** JSON with lists of words on one line, as the formatter wants them. */
function asText(table) {
  const text = JSON.stringify(table, null, 2);
  const list = /\[\n\s+("(?:[^"\\]|\\.)*"(?:,\n\s+"(?:[^"\\]|\\.)*")*)\n\s+\]/g;
  return `${text.replace(list, (_, words) => `[${words.replace(/,\n\s+/g, ", ")}]`)}\n`;
}

async function main() {
  const flag = { type: "boolean", default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { built: flag, json: flag, update: flag, object: { type: "string", multiple: true, default: [] } },
  });
  let tools;
  try {
    tools = fetchedDisassembler();
    if (!values.built && values.object.length === 0) buildAddon(path.join(fetchedToolkit(), "bin", "nvcc"));
  } catch (error) {
    if (!(error instanceof ToolkitError)) throw error;
    console.error(error.message);
    return noToolkit;
  }
  const expected = JSON.parse(readFileSync(expectations, "utf8"));
  const isPart = positionals.length > 0 || values.object.length > 0;
  const files = filesOf(values.object, positionals);
  const kernels = await measureAll(tools, files, expected);
  console.log(values.json ? JSON.stringify(kernels, null, 2) : tableOf(kernels));
  if (isPart) return 0;
  const isUpdate = values.update;
  const table = isUpdate ? updated(kernels, expected) : expected;
  if (isUpdate) writeFileSync(expectations, asText(table));
  const { failures, notes } = compare(kernels, table, { isUpdate });
  for (const note of notes) console.error(note);
  for (const failure of failures) console.error(failure);
  if (failures.length === 0) {
    const most = kernels.reduce((most, { measured }) => Math.max(most, measured.bytes), 0);
    if (!values.json)
      console.log(`${kernels.length} kernels, no local memory, at most ${(most / 1024).toFixed(1)} KiB of code`);
    return 0;
  }
  console.error(
    `Where that is meant: node scripts/check_sass.mjs --update, or change ${path.relative(root, expectations)}`,
  );
  return 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
