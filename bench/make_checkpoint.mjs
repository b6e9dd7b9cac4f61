// Writes a model folder with random fp16 weights of any shape, to measure loading and memory with:
//
//   node bench/make_checkpoint.mjs SHAPE FOLDER
//
// SHAPE is a name of bench/shapes.mjs or the path of the config.json of a Llama or OPT model.
import process from "node:process";
import { writeRandomCheckpoint } from "./random_checkpoint.mjs";

const [shape, folder] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: node bench/make_checkpoint.mjs SHAPE FOLDER");
  process.exitCode = 2;
} else {
  try {
    const bytes = writeRandomCheckpoint(shape, folder);
    console.log(`${folder}: ${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
