/** A metric: its type, labels and meaning. */
export interface MetricRow {
  type: "counter" | "gauge" | "histogram";
  labels: readonly string[];
  help: string;
  /** Upper bounds of a histogram. */
  buckets?: readonly number[];
}

/** 1, 2, 5, 10, 20, 50 and so on. */
export function oneTwoFive(most: number): number[] {
  const found: number[] = [];
  for (let power = 1; power <= most; power *= 10) found.push(power, 2 * power, 5 * power);
  return found.filter((bound) => bound <= most);
}
