import { ServerMetrics } from "../../../dist/serving/metrics/server_metrics.js";

export function makeMetrics(): ServerMetrics {
  return new ServerMetrics({ version: "1.2.3", device: "cpu", hostname: "here", disableSystemMetrics: true });
}

/** Samples by name and labels, as they stand in the text: `a{b="c"}`. */
export async function readSamples(metrics: ServerMetrics, accept?: string): Promise<Map<string, number>> {
  const { body } = await metrics.render(accept);
  const lines = body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}
