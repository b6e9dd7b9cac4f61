#include "variant_specs.h"

namespace shardspeed::test {

namespace {

// Alternating windows, norms ahead of the parts and of what they compute, offsets of weights, caps (Gemma-2).
ModelSpec cappedSpec() {
  ModelSpec spec = llamaSpec();
  setOutputNorms(spec, true);
  for (LayerSpec& kind : spec.kinds) {
    kind.norms.norm.weightOffset = 1;
    kind.attention.softCap = 3;
  }
  spec.kinds[0].attention.mask = WindowMask{9};
  spec.embedding.scale = 6.3f;
  logitsOf(spec).tied = true;
  logitsOf(spec).softCap = 5;
  return spec;
}

// Multipliers of embeddings, parts and logits (Granite).
ModelSpec scaledSpec() {
  ModelSpec spec = llamaSpec();
  for (LayerSpec& kind : spec.kinds) kind.residualScale = 0.22f;
  spec.embedding.scale = 12;
  logitsOf(spec).scale = 0.125f;
  return spec;
}

// XGLM.
ModelSpec sinusoidalSpec() {
  ModelSpec spec = optSpec();
  spec.embedding.scale = 6;
  spec.embedding.positions = SinusoidalPositions{2};
  return spec;
}

QkNormSpec normOfHeads(NormKind kind, QkNormSpan span = QkNormSpan::kHead) {
  QkNormSpec spec;
  spec.span = span;
  spec.norm.kind = kind;
  return spec;
}

// Norms of whole rows of queries and keys, and of what parts compute alone (OLMo-2).
ModelSpec rowNormsSpec(int64_t heads, int64_t kvHeads) {
  ModelSpec spec = llamaSpec();
  setHeads(spec, heads, kvHeads);
  setOutputNorms(spec, false);
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.qkNorm = normOfHeads(NormKind::kRms, QkNormSpan::kRow);
    kind.attention.clamp = 1.5f;
  }
  return spec;
}

// Norms of heads with weights of their own, neighbours that turn, a scale of logits (Cohere).
ModelSpec ownNormsSpec() {
  ModelSpec spec = llamaSpec();
  setHeads(spec, 6, 3);
  setResidual(spec, Residual::kSharedNormParallel);
  for (LayerSpec& kind : spec.kinds) {
    kind.norms.norm.kind = NormKind::kLayer;
    kind.attention.qkNorm = normOfHeads(NormKind::kLayer);
    kind.attention.qkNorm->headWeights = true;
    std::get<RotaryPositions>(kind.attention.positions).layout = RotaryLayout::kInterleaved;
  }
  logitsOf(spec).scale = 0.6f;
  return spec;
}

// Norms of heads behind positions (HunYuan).
ModelSpec lateNormsSpec() {
  ModelSpec spec = llamaSpec();
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.qkNorm = normOfHeads(NormKind::kRms);
    kind.attention.qkNorm->afterPositions = true;
  }
  return spec;
}

// Chunks, and layers that know no positions, with a temperature (Llama 4).
ModelSpec temperedSpec() {
  ModelSpec spec = llamaSpec();
  spec.kinds[0].attention.mask = ChunkMask{8};
  spec.kinds[0].attention.qkNorm = normOfHeads(NormKind::kRms);
  spec.kinds[1].attention.positions = NoPositions{};
  spec.kinds[1].attention.temperature = QueryTemperature{0.3f, 6, 1};
  return spec;
}

// Sinks, in windows and out of them (GPT-OSS).
ModelSpec sinksSpec() {
  ModelSpec spec = llamaSpec();
  spec.kinds[0].attention.mask = WindowMask{7};
  for (LayerSpec& kind : spec.kinds) kind.attention.sinks = true;
  return spec;
}

// Other frequencies for sequences of more than 18 tokens, and another amplitude (Phi-3).
ModelSpec longSpec() {
  ModelSpec spec = llamaSpec();
  RotarySpec& table = spec.rotaryTables[0];
  table.amplitude = 1.2f;
  table.longer = LongRotary{18, table.inverseFrequencies, 1.4f};
  for (size_t j = 0; j < table.inverseFrequencies.size(); ++j)
    table.longer->inverseFrequencies[j] /= 1.5f + static_cast<float>(j);
  return spec;
}

// xIELU, and norms of heads (Apertus).
ModelSpec xieluSpec() {
  ModelSpec spec = llamaSpec();
  for (LayerSpec& kind : spec.kinds) {
    kind.feedForward = DenseFeedForward{45, ActivationKind::kXielu, false};
    kind.attention.qkNorm = normOfHeads(NormKind::kRms);
  }
  return spec;
}

// Products with relative positions, not in order of their rows, by the query, the key or both (DeBERTa).
ModelSpec relativeSpec() {
  ModelSpec spec = optSpec();
  spec.embedding.positions.reset();
  spec.kinds[0].attention.positions = RelativePositions{true, true};
  spec.kinds[1].attention.positions = RelativePositions{false, true};
  spec.kinds[1].attention.mask = WindowMask{19};
  spec.relativeTable = RelativeTable{12, {}, NormSpec{}};
  for (int32_t distance = 0; distance < 25; ++distance) spec.relativeTable->rowOf.push_back(distance * 5 % 12);
  return spec;
}

}  // namespace

std::vector<Variant> variants() {
  return {{"caps and four norms", cappedSpec()},
          {"scales", scaledSpec()},
          {"sinusoidal positions", sinusoidalSpec()},
          {"norms of rows", rowNormsSpec(4, 2)},
          {"norms of rows of shared keys", rowNormsSpec(8, 1)},
          {"norms of each head", ownNormsSpec()},
          {"norms behind positions", lateNormsSpec()},
          {"chunks and a temperature", temperedSpec()},
          {"sinks", sinksSpec()},
          {"frequencies of long sequences", longSpec()},
          {"xIELU", xieluSpec()},
          {"relative positions", relativeSpec()}};
}

}  // namespace shardspeed::test
