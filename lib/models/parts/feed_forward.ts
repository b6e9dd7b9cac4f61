import type { Activation, DenseFeedForward, FeedForwardSpec } from "../../native/spec.js";
import { linear, stackedLinear, type WeightPlace } from "../descriptor.js";

/** down(activation(up(x))) (Vaswani et al. 2017). */
export function plainFeedForward(size: number, activation: Activation): DenseFeedForward {
  return { kind: "dense", size, activation, gated: false };
}

/** down(activation(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202). */
export function gatedFeedForward(size: number, activation: Activation): DenseFeedForward {
  return { kind: "dense", size, activation, gated: true };
}

/** The matrices of a dense feed-forward network, by name; without a gate where none is named. */
export function feedForwardPlaces(
  { size }: DenseFeedForward,
  hidden: number,
  { gate, up, down }: { gate?: string; up: string; down: string },
  bias: boolean,
): WeightPlace[] {
  return [
    ...(gate === undefined ? [] : linear("mlp.gate", gate, size, hidden, bias)),
    ...linear("mlp.up", up, size, hidden, bias),
    ...linear("mlp.down", down, hidden, size, bias),
  ];
}

/** The same with a gate in one matrix with `up`, ahead of it (Phi-3, GLM, ModernBERT). */
export function stackedGate(
  { size }: Pick<FeedForwardSpec, "size">,
  hidden: number,
  gateUp: string,
  down: string,
  bias = false,
): WeightPlace[] {
  return [
    ...stackedLinear(
      [
        ["mlp.gate", size],
        ["mlp.up", size],
      ],
      gateUp,
      hidden,
      bias,
    ),
    ...linear("mlp.down", down, hidden, size, bias),
  ];
}
