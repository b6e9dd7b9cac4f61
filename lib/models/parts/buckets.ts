import type { AttentionPositions } from "../../native/spec.js";

const round = Math.fround;

/**
 * Buckets of distances on both sides (Raffel et al. 2020, arXiv:1910.10683): a quarter of them for small distances, one each, and a quarter for
 * larger ones up to maxDistance, in logarithmic steps; the second half is of keys behind the query. Rounded as the reference computes it, in
 * fp32.
 */
export function distanceBuckets(buckets: number, maxDistance: number): AttentionPositions {
  const half = Math.floor(buckets / 2);
  const exact = Math.floor(half / 2);
  const bucket = (far: number) => {
    if (far < exact) return far;
    const steps = round(round(Math.log(round(far / exact))) / round(Math.log(maxDistance / exact)));
    return Math.min(half - 1, exact + Math.trunc(round(steps * (half - exact))));
  };
  const bucketOf = Array.from({ length: 2 * maxDistance + 1 }, (_, index) => {
    const distance = index - maxDistance;
    return bucket(Math.abs(distance)) + (distance > 0 ? half : 0);
  });
  return { kind: "buckets", buckets, bucketOf };
}
