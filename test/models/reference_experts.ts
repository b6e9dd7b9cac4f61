import type { ExpertsFeedForward } from "../../dist/native/spec.js";
import { sigmoid, softmax } from "./reference_math.js";

// What a router chooses, and GPT-OSS's gate, in double precision: for reference.ts.

/** The experts of a row, and what each is multiplied by. */
export function route(
  { perToken, router }: ExpertsFeedForward,
  logits: readonly number[],
  correction: readonly number[] | undefined,
): { expert: number; weight: number }[] {
  const { scoring, groups, jitter = 0 } = router;
  const scores = scoring === "softmax" ? softmax(logits) : scoring === "sigmoid" ? logits.map(sigmoid) : [...logits];
  let ranking = scores.map((score, i) => score + (correction?.[i] ?? 0));
  if (groups) {
    const size = logits.length / groups.count;
    const sums = Array.from({ length: groups.count }, (_, group) => {
      const best = ranking.slice(group * size, (group + 1) * size).sort((one, other) => other - one);
      return best.slice(0, groups.best).reduce((sum, score) => sum + score, 0);
    });
    const kept = new Set(largest(sums, groups.chosen));
    ranking = ranking.map((score, i) => (kept.has(Math.floor(i / size)) ? score : Number.NEGATIVE_INFINITY));
  }
  const experts = largest(ranking, perToken);
  let weights = experts.map((expert) => scores[expert] as number);
  if (scoring === "topk-softmax") weights = softmax(weights);
  if (scoring === "sparsemixer") {
    weights = experts.map((expert, i) => {
      const most = logits[expert] as number;
      const near = logits.filter(
        (logit, at) =>
          !experts.slice(0, i).includes(at) && (most - logit) / Math.max(Math.abs(logit), most) <= 2 * jitter,
      );
      return 1 / near.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
    });
  }
  const sum = router.normalise ? weights.reduce((total, weight) => total + weight, 0) : 1;
  return experts.map((expert, i) => ({ expert, weight: ((weights[i] as number) / sum) * (router.scale ?? 1) }));
}

/** Indices of the largest values, the largest first. */
function largest(values: readonly number[], count: number): number[] {
  const order = values.map((_, i) => i).sort((one, other) => (values[other] as number) - (values[one] as number));
  return order.slice(0, count);
}

/** A gate and the neuron beside it, both limited. */
export function clampedGate(
  { limit, alpha }: NonNullable<ExpertsFeedForward["clamped"]>,
  value: number,
  beside: number,
): number {
  const gate = Math.min(value, limit);
  return gate * sigmoid(alpha * gate) * (Math.min(Math.max(beside, -limit), limit) + 1);
}
