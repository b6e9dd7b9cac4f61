import type { AttentionPositions, RelativeTable } from "../../native/spec.js";

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

/**
 * Rows of distances on both sides (He et al. 2020, arXiv:2006.03654): 2 span rows, the middle one of distance 0, keys ahead of the query in the
 * rows before it. Without buckets each distance has a row; with buckets, half of them, and the others have theirs in logarithmic steps up to about
 * maxDistance. Rounded as the reference computes it, in fp32. Nothing is farther than `farthest`.
 */
export function relativeRows(
  { buckets, maxDistance }: { buckets: number | undefined; maxDistance: number },
  farthest: number,
): RelativeTable {
  const span = buckets ?? maxDistance;
  const middle = Math.floor(span / 2);
  const scale = round(Math.log(round((maxDistance - 1) / middle)));
  const bucket = (far: number) => {
    if (buckets === undefined || far <= middle) return far;
    const steps = round(round(Math.log(round(far / middle))) / scale);
    return Math.ceil(round(steps * (middle - 1))) + middle;
  };
  const reach = buckets === undefined ? Math.min(farthest, maxDistance) : farthest;
  const rowOf = Array.from({ length: 2 * reach + 1 }, (_, index) => {
    const behind = reach - index;
    return Math.min(Math.max(span + Math.sign(behind) * bucket(Math.abs(behind)), 0), 2 * span - 1);
  });
  return { rows: 2 * span, rowOf };
}
