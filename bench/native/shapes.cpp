#include "shapes.h"

#include <cmath>

namespace shardspeed::bench {

std::vector<ModelShape> modelShapes(bool smoke) {
  if (smoke) return {{"tiny-llama", 2, 64, 4, 2, 16, 96, 128, true}, {"tiny-opt", 2, 64, 4, 4, 16, 128, 100, false}};
  return {{"Llama-3-8B", 32, 4096, 32, 8, 128, 14336, 128256, true},
          {"Llama-2-7B", 32, 4096, 32, 32, 128, 11008, 32000, true},
          {"OPT-13B", 40, 5120, 40, 40, 128, 20480, 50272, false},
          {"OPT-30B", 48, 7168, 56, 56, 128, 28672, 50272, false}};
}

ModelSpec modelSpec(const ModelShape& shape, int64_t maxPositions) {
  ModelSpec spec;
  spec.family = shape.isLlama ? "llama" : "opt";
  spec.vocabSize = shape.vocab;
  spec.hiddenSize = shape.hidden;
  spec.maxPositions = maxPositions;
  spec.embedding.width = shape.hidden;
  LayerSpec layer;
  layer.attention.heads = shape.heads;
  layer.attention.kvHeads = shape.kvHeads;
  layer.attention.headDim = shape.headDim;
  layer.attention.scale = 1.0f / std::sqrt(static_cast<float>(shape.headDim));
  if (shape.isLlama) {
    layer.feedForward = DenseFeedForward{shape.ffn, ActivationKind::kSilu, true};
    layer.norms.norm.kind = NormKind::kRms;
    layer.attention.positions = RotaryPositions{shape.headDim, RotaryLayout::kHalf, 0};
    RotarySpec& table = spec.rotaryTables.emplace_back();
    for (int64_t i = 0; i < shape.headDim / 2; ++i)
      table.inverseFrequencies.push_back(
          std::pow(500000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.headDim)));
  } else {
    layer.feedForward = DenseFeedForward{shape.ffn, ActivationKind::kRelu, false};
    spec.embedding.positions = LearnedPositions{2};
  }
  spec.kinds = {layer};
  spec.layers.assign(static_cast<size_t>(shape.layers), 0);
  spec.output = LogitsOutput{.tied = !shape.isLlama, .norm = layer.norms.norm};
  return spec;
}

}  // namespace shardspeed::bench
