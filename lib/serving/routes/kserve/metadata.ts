import type { ServedModel } from "../../served_model.js";

interface TensorMetadata {
  name: string;
  datatype: string;
  /** -1 for any size. */
  shape: number[];
}

const texts: TensorMetadata = { name: "text_input", datatype: "BYTES", shape: [-1] };
const ids: TensorMetadata = { name: "input_ids", datatype: "INT64", shape: [-1, -1] };

/** What a model takes and gives, as far as a worker has said. */
function describeTensors({ engine }: ServedModel): { inputs: TensorMetadata[]; outputs: TensorMetadata[] } {
  if (engine === undefined) return { inputs: [], outputs: [] };
  const { tasks, info } = engine;
  if (tasks.includes("classify")) {
    const rows: TensorMetadata[] = ["scores", "logits"].map((name) => ({
      name,
      datatype: "FP32",
      shape: [-1, info.classes],
    }));
    return {
      inputs: [texts, { name: "text_pair", datatype: "BYTES", shape: [-1] }],
      outputs: [...rows, { name: "label", datatype: "BYTES", shape: [-1] }],
    };
  }
  if (tasks.includes("generate")) {
    return { inputs: [texts, ids], outputs: [{ name: "text_output", datatype: "BYTES", shape: [-1] }] };
  }
  return { inputs: [texts, ids], outputs: [{ name: "embeddings", datatype: "FP32", shape: [-1, info.hiddenSize] }] };
}

export function describeModel(model: ServedModel, versions: readonly string[]): object {
  return { name: model.name, versions, platform: "shardspeed", ...describeTensors(model) };
}
