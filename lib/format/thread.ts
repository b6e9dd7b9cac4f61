import { parentPort, workerData } from "node:worker_threads";
import { ShardspeedError } from "../base/errors.js";
import { compileFormat } from "./compile.js";

/** What a thread says of the format that it was started with. */
export type Outcome = { nodes: Int32Array<ArrayBuffer> } | { code: string; message: string };

function compile(text: string): Outcome {
  try {
    return { nodes: Int32Array.from(compileFormat(text)) };
  } catch (error) {
    if (!ShardspeedError.isInstance(error)) throw error;
    return { code: error.code, message: error.message };
  }
}

const outcome = compile(workerData as string);
parentPort?.postMessage(outcome, "nodes" in outcome ? [outcome.nodes.buffer] : []);
