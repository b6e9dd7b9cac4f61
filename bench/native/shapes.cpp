#include "shapes.h"

#include <cmath>

namespace shardspeed::bench {

std::vector<ModelShape> modelShapes(bool smoke) {
  if (smoke) return {{"tiny-llama", 2, 64, 4, 2, 16, 96, 128, true}, {"tiny-opt", 2, 64, 4, 4, 16, 128, 100, false}};
  return {{"Llama-3-8B", 32, 4096, 32, 8, 128, 14336, 128256, true},
          {"Llama-2-7B", 32, 4096, 32, 32, 128, 11008, 32000, true},
          {"OPT-13B", 40, 5120, 40, 40, 128, 20480, 50272, false}};
}

ModelSpec modelSpec(const ModelShape& shape, int64_t maxPositions) {
  ModelSpec spec;
  spec.family = shape.isLlama ? "llama" : "opt";
  spec.layers = shape.layers;
  spec.vocabSize = shape.vocab;
  spec.hiddenSize = shape.hidden;
  spec.embeddingSize = shape.hidden;
  spec.heads = shape.heads;
  spec.kvHeads = shape.kvHeads;
  spec.headDim = shape.headDim;
  spec.ffnSize = shape.ffn;
  spec.maxPositions = maxPositions;
  spec.attentionScales.assign(static_cast<size_t>(shape.layers), 1.0f / std::sqrt(static_cast<float>(shape.headDim)));
  if (shape.isLlama) {
    spec.gatedFfn = true;
    spec.activation = ActivationKind::kSilu;
    spec.norm = NormKind::kRms;
    spec.positions = PositionKind::kRotary;
    for (int64_t i = 0; i < shape.headDim / 2; ++i)
      spec.rotary.inverseFrequencies.push_back(
          std::pow(500000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.headDim)));
  } else {
    spec.positions = PositionKind::kLearned;
    spec.positionOffset = 2;
    spec.tiedHead = true;
  }
  return spec;
}

}  // namespace shardspeed::bench
