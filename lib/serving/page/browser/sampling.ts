/** A number that a request may have. */
interface NumberField {
  name: string;
  label: string;
  least: number;
  most?: number;
  isWhole?: boolean;
}

/** The fields, and what the server takes in them. */
export const numberFields: readonly NumberField[] = [
  { name: "max_tokens", label: "Most tokens", least: 1, isWhole: true },
  { name: "temperature", label: "Temperature", least: 0, most: 2 },
  { name: "top_p", label: "Top p", least: 0, most: 1 },
  { name: "top_k", label: "Top k", least: -1, isWhole: true },
  { name: "min_p", label: "Min p", least: 0, most: 1 },
  { name: "repetition_penalty", label: "Repetition penalty", least: Number.MIN_VALUE },
  { name: "presence_penalty", label: "Presence penalty", least: -2, most: 2 },
  { name: "frequency_penalty", label: "Frequency penalty", least: -2, most: 2 },
  { name: "seed", label: "Seed", least: Number.MIN_SAFE_INTEGER, isWhole: true },
];

export interface Sampling {
  /** Fields of a request. */
  body: Record<string, number | string[]>;
  /** By the name of the field, what is wrong with it. */
  faults: Map<string, string>;
}

/** Reads what was typed. An empty field is left out, so that the server's or the model's own value counts. */
export function readSampling(typed: (name: string) => string): Sampling {
  const body: Sampling["body"] = {};
  const faults: Sampling["faults"] = new Map();
  for (const field of numberFields) {
    // Who writes 0,7 means 0.7.
    const text = typed(field.name).trim().replace(",", ".");
    if (text === "") continue;
    const value = Number(text);
    const fault = findFault(field, value);
    if (fault === undefined) body[field.name] = value;
    else faults.set(field.name, `${field.label}: ${fault}.`);
  }
  const stop = typed("stop_strings")
    .split("\n")
    .filter((line) => line !== "");
  if (stop.length > 0) body.stop = stop;
  return { body, faults };
}

function findFault({ least, most, isWhole = false }: NumberField, value: number): string | undefined {
  const isFine =
    Number.isFinite(value) &&
    value >= least &&
    value <= (most ?? Number.MAX_SAFE_INTEGER) &&
    (!isWhole || Number.isInteger(value));
  if (isFine) return undefined;
  const kind = isWhole ? "a whole number" : "a number";
  if (most !== undefined) return `${kind} from ${least} to ${most}`;
  if (least === Number.MIN_VALUE) return `${kind} above 0`;
  return least < -1 ? kind : `${kind} of at least ${least}`;
}
