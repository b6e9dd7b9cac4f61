#pragma once

#include <cstdint>
#include <vector>

#include "model/spec.h"

// Sizes of the models whose kernels are measured, from their config.json.

namespace shardspeed::bench {

struct ModelShape {
  const char* name;
  int64_t layers;
  int64_t hidden;
  int64_t heads;
  int64_t kvHeads;
  int64_t headDim;
  int64_t ffn;
  int64_t vocab;
  bool isLlama;  // RMSNorm, rotary, gated SiLU, no biases; else OPT: LayerNorm, learned positions, ReLU, biases
};

std::vector<ModelShape> modelShapes(bool smoke);
// maxPositions: longest sequence
ModelSpec modelSpec(const ModelShape& shape, int64_t maxPositions);

}  // namespace shardspeed::bench
