import type { Random } from "./random.js";

/** When requests are sent. */
export interface ArrivalOptions {
  /** Requests a second; Infinity: all at once. */
  requestRate: number;
  /** Shape of the gamma distribution of the gaps: 1 is a Poisson process, below 1 comes in bursts, above 1 is more even. */
  burstiness: number;
}

/**
 * Times in seconds after the start at which requests are sent, as vLLM draws them: gaps of a gamma distribution, added up, then scaled so
 * that their mean is 1 / rate and the last request is sent at count / rate. So every seed asks for the same load in the same time.
 */
export function drawArrivals(count: number, { requestRate, burstiness }: ArrivalOptions, random: Random): number[] {
  if (requestRate === Number.POSITIVE_INFINITY) return new Array(count).fill(0);
  const times: number[] = [];
  let time = 0;
  for (let i = 0; i < count; i++) {
    time += random.gamma(burstiness);
    times.push(time);
  }
  const scale = time === 0 ? 0 : count / requestRate / time;
  return times.map((one) => one * scale);
}
