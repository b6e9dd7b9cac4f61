import type { Registry } from "prom-client";

/** How metrics are written. */
export type MetricFormat = "text" | "openmetrics";

export const metricContentTypes: Readonly<Record<MetricFormat, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** The format that a client prefers by its Accept header; of two that it likes as much, OpenMetrics. */
export function chooseFormat(accept: string | undefined): MetricFormat {
  const qualities = new Map<string, number>();
  for (const part of (accept ?? "").slice(0, 2000).split(",")) {
    const [type = "", ...parameters] = part.split(";").map((text) => text.trim().toLowerCase());
    const quality = Number(parameters.find((text) => text.startsWith("q="))?.slice(2) ?? 1);
    // A type may be there twice, in two versions.
    const best = Math.max(qualities.get(type) ?? 0, Number.isFinite(quality) ? quality : 0);
    if (type !== "") qualities.set(type, best);
  }
  const open = qualities.get("application/openmetrics-text") ?? 0;
  const text = qualities.get("text/plain") ?? 0;
  return open > 0 && open >= text ? "openmetrics" : "text";
}

interface Family {
  name: string;
  help: string;
  type: unknown;
  values: { value: number; labels: object; metricName?: string }[];
}

/**
 * All metrics as text. Not by the registry's own writer: that one renames counters for good when it writes OpenMetrics, and has no filter.
 *
 * @param names Only these, where there are any: of families, or of their samples.
 */
export async function renderMetrics(
  registry: Registry,
  format: MetricFormat,
  names: readonly string[] = [],
): Promise<string> {
  const families = (await registry.getMetricsAsJSON()) as unknown as Family[];
  const wanted = families.filter(({ name }) => names.length === 0 || names.some((one) => isOfFamily(one, name)));
  const body = wanted.map((family) => renderFamily(family, format)).join("");
  return format === "openmetrics" ? `${body}# EOF\n` : body;
}

function isOfFamily(name: string, family: string): boolean {
  return (
    name === family || /^_(bucket|sum|count|total)$/.test(name.startsWith(family) ? name.slice(family.length) : "")
  );
}

/**
 * OpenMetrics wants counters to be called `_total`. TorchServe's are not, and keep their names, so that a dashboard finds them whatever
 * format a Prometheus asks for: as metrics of an unknown type.
 */
function renderFamily({ name, help, type, values }: Family, format: MetricFormat): string {
  const isCounter = format === "openmetrics" && type === "counter";
  const family = isCounter ? name.replace(/_total$/, "") : name;
  const shownType = isCounter && family === name ? "unknown" : type;
  const shownHelp = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  const head = `# HELP ${family} ${format === "openmetrics" ? shownHelp.replaceAll('"', '\\"') : shownHelp}\n# TYPE ${family} ${shownType}\n`;
  const samples = values.map(({ labels, value, metricName = name }) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(String(text))}"`);
    return `${metricName}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${showNumber(value)}\n`;
  });
  return head + samples.join("");
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

function showNumber(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}
