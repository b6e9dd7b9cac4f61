/** One sample of a metrics page. */
export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

// A label's value may hold braces, commas and escaped quotes.
const samplePattern = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)/;
const labelPattern = /([a-zA-Z_]\w*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"/g;

/** Reads the text format of Prometheus. Lines that are no sample are left out. */
export function parseSamples(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    const [, name, labels = "", written] = samplePattern.exec(line) ?? [];
    if (name === undefined || written === undefined) continue;
    const value = toNumber(written);
    if (!Number.isNaN(value)) samples.push({ name, labels: readLabels(labels), value });
  }
  return samples;
}

/** Prometheus writes infinity as +Inf, which JavaScript does not read. */
function toNumber(written: string): number {
  const [, sign, isInfinite] = /^([+-]?)(inf(?:inity)?)$/i.exec(written) ?? [];
  if (isInfinite !== undefined) return sign === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  return Number(written);
}

function readLabels(text: string): Record<string, string> {
  const pairs = [...text.matchAll(labelPattern)].map(([, name = "", value = ""]) => [name, unescapeValue(value)]);
  return Object.fromEntries(pairs);
}

function unescapeValue(value: string): string {
  return value.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
}

/** A histogram: how many observations each bucket has, not those of the buckets below. */
export interface Histogram {
  /** Upper ends in ascending order; the last is Infinity. */
  buckets: { atMost: number; count: number }[];
  count: number;
}

/** Adds up a histogram over all of its label sets that fit; undefined where there is none. */
export function readHistogram(
  samples: readonly Sample[],
  name: string,
  fits: (labels: Sample["labels"]) => boolean = () => true,
): Histogram | undefined {
  const below = new Map<number, number>();
  for (const sample of samples) {
    const end = sample.labels.le;
    if (sample.name !== `${name}_bucket` || end === undefined || !fits(sample.labels)) continue;
    const atMost = toNumber(end);
    below.set(atMost, (below.get(atMost) ?? 0) + sample.value);
  }
  if (below.size === 0) return undefined;
  let before = 0;
  const buckets = [...below]
    .sort(([a], [b]) => a - b)
    .map(([atMost, cumulative]) => {
      const count = Math.max(0, cumulative - before);
      before = Math.max(before, cumulative);
      return { atMost, count };
    });
  return { buckets, count: before };
}

/** The value that a part of the observations is at most, as Prometheus estimates it: on a line through a bucket. undefined without observations. */
export function quantile({ buckets, count }: Histogram, part: number): number | undefined {
  if (count === 0) return undefined;
  const wanted = part * count;
  let before = 0;
  let from = 0;
  for (const { atMost, count: here } of buckets) {
    if (here > 0 && before + here >= wanted) {
      if (atMost === Number.POSITIVE_INFINITY) return from;
      return from + (atMost - from) * ((wanted - before) / here);
    }
    before += here;
    from = atMost;
  }
  return from;
}
