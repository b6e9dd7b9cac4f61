#pragma once

#include <utility>
#include <vector>

#include "model/spec.h"

namespace shardspeed::test {

// Mixtures of experts in fp64, as they are defined.

// The experts of a row and their weights, the first chosen first.
std::vector<std::pair<size_t, double>> routed(const ExpertsFeedForward& spec, const std::vector<double>& logits,
                                              const std::vector<double>& correction);

// What a gate, behind its activation, makes of the neuron beside it.
double clampedGate(const ClampedGate& clamped, double gate, double up);

}  // namespace shardspeed::test
