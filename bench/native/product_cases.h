#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/spec.h"
#include "shapes.h"

namespace shardspeed::bench {

// A matrix product of a model, with what is fused into it.
struct ProductCase {
  std::string kernel;
  int64_t outFeatures;
  int64_t inFeatures;
  bool normed = false;    // reads the stream through a norm
  bool residual = false;  // adds to the stream
  bool gated = false;
  bool logits = false;  // writes fp32
  ActivationKind activation = ActivationKind::kNone;
};

// Those of a layer, then the head.
std::vector<ProductCase> productCases(const ModelShape& model);

}  // namespace shardspeed::bench
