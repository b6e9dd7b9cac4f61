import { readFileSync } from "node:fs";
import { shapes } from "./shapes.mjs";

/** The config.json that a --shape option means: a known name, or the path of a file. */
export function readShape(shape) {
  if (Object.hasOwn(shapes, shape)) return shapes[shape];
  try {
    return JSON.parse(readFileSync(shape, "utf8"));
  } catch (error) {
    throw new Error(
      `Expected --shape to be one of ${Object.keys(shapes).join(", ")} or the path of a config.json: ${error.message}`,
    );
  }
}
