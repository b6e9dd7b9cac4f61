#include "tiny_model.h"
#include "variant_specs.h"

namespace shardspeed::test {

DenseFeedForward& denseOf(LayerSpec& layer) {
  return std::get<DenseFeedForward>(layer.feedForward);
}

ExpertsFeedForward& expertsOf(LayerSpec& layer) {
  return std::get<ExpertsFeedForward>(layer.feedForward);
}

LogitsOutput& logitsOf(ModelSpec& spec) {
  return std::get<LogitsOutput>(spec.output);
}

void setHeads(ModelSpec& spec, int64_t heads, int64_t kvHeads) {
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.heads = heads;
    kind.attention.kvHeads = kvHeads;
  }
}

void setFeedForwardSize(ModelSpec& spec, int64_t size) {
  for (LayerSpec& kind : spec.kinds) denseOf(kind).size = size;
}

void setResidual(ModelSpec& spec, Residual residual) {
  for (LayerSpec& kind : spec.kinds) {
    kind.residual = residual;
    kind.norms.input = residual != Residual::kPostNorm;
  }
}

void setOutputNorms(ModelSpec& spec, bool input) {
  for (LayerSpec& kind : spec.kinds) {
    kind.norms.output = true;
    kind.norms.input = input;
  }
}

void setPostNorm(ModelSpec& spec) {
  setResidual(spec, Residual::kPostNorm);
  logitsOf(spec).norm.reset();
}

void makeDynamic(RotarySpec& table, int64_t originalPositions, double factor) {
  table.dynamicOriginalPositions = originalPositions;
  table.dynamicBase = 10000;
  table.dynamicFactor = factor;
}

// Layers that are alike but for their scales.
static void addLayers(ModelSpec& spec, LayerSpec layer, const std::vector<float>& scales) {
  for (const float scale : scales) {
    layer.attention.scale = scale;
    spec.layers.push_back(static_cast<int32_t>(spec.kinds.size()));
    spec.kinds.push_back(layer);
  }
}

ModelSpec llamaSpec() {
  ModelSpec spec;
  spec.family = "llama";
  spec.vocabSize = 53;
  spec.hiddenSize = spec.embedding.width = 40;
  spec.maxPositions = 128;
  LayerSpec layer;
  layer.attention.heads = 4;
  layer.attention.kvHeads = 2;
  layer.attention.headDim = 12;
  layer.attention.positions = RotaryPositions{12, RotaryLayout::kHalf, 0};
  layer.feedForward = DenseFeedForward{37, ActivationKind::kSilu, true};
  layer.norms.norm.kind = NormKind::kRms;
  addLayers(spec, layer, {0.3f, 0.25f});
  RotarySpec& table = spec.rotaryTables.emplace_back();
  for (int j = 0; j < 6; ++j) table.inverseFrequencies.push_back(std::pow(10000.0f, static_cast<float>(-j) / 6));
  spec.output = LogitsOutput{.norm = layer.norms.norm};
  return spec;
}

ModelSpec optSpec() {
  ModelSpec spec;
  spec.family = "opt";
  spec.vocabSize = 50;
  spec.hiddenSize = spec.embedding.width = 36;
  spec.maxPositions = 100;
  spec.embedding.positions = LearnedPositions{2};
  LayerSpec layer;
  layer.attention.heads = layer.attention.kvHeads = 3;
  layer.attention.headDim = 12;
  layer.feedForward = DenseFeedForward{50, ActivationKind::kRelu, false};
  addLayers(spec, layer, {0.29f, 0.29f});
  spec.output = LogitsOutput{.tied = true, .norm = layer.norms.norm};
  return spec;
}

ModelSpec expertsSpec() {
  ModelSpec spec = llamaSpec();
  spec.family = "experts";
  ExpertsFeedForward experts;
  experts.count = 5;
  experts.perToken = 2;
  experts.size = 21;
  experts.gated = true;
  experts.shared = SharedExpert{19, true};
  for (LayerSpec& kind : spec.kinds) kind.feedForward = experts;
  return spec;
}

ModelSpec latentSpec() {
  ModelSpec spec = llamaSpec();
  spec.family = "latent";
  setHeads(spec, 4, 4);
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.headDim = 20;
    kind.attention.latent = LatentAttention{0, 17, 12, 9, kind.norms.norm};
    kind.attention.positions = RotaryPositions{12, RotaryLayout::kInterleaved, 0};
  }
  spec.kinds[0].attention.latent->queryRank = 14;
  return spec;
}

std::vector<ModelSpec> variedSpecs() {
  std::vector<ModelSpec> result = {llamaSpec(), optSpec()};
  ModelSpec uneven = llamaSpec();
  setHeads(uneven, 9, 3);
  setFeedForwardSize(uneven, 137);
  uneven.vocabSize = 101;
  result.push_back(uneven);
  ModelSpec oneKvHead = llamaSpec();
  setHeads(oneKvHead, 8, 1);
  logitsOf(oneKvHead).tied = true;
  result.push_back(oneKvHead);
  ModelSpec postNorm = optSpec();
  setPostNorm(postNorm);
  result.push_back(postNorm);
  ModelSpec projected = optSpec();
  projected.embedding.width = projected.hiddenSize / 2;
  result.push_back(projected);
  ModelSpec parallel = optSpec();
  parallel.embedding.norm = NormSpec{};
  setResidual(parallel, Residual::kParallel);
  result.push_back(parallel);
  ModelSpec sharedNorm = llamaSpec();
  setResidual(sharedNorm, Residual::kSharedNormParallel);
  denseOf(sharedNorm.kinds[1]).size = 21;
  result.push_back(sharedNorm);
  for (const Variant& variant : variants()) result.push_back(variant.spec);
  result.push_back(latentSpec());
  ModelSpec experts = expertsSpec();
  expertsOf(experts.kinds[0]).shared.reset();
  expertsOf(experts.kinds[1]).size = 50;
  result.push_back(experts);
  return result;
}

}  // namespace shardspeed::test
