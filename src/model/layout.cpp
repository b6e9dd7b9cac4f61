#include "model/layout.h"

#include <array>

namespace shardspeed {

std::string layerRole(int64_t layer, const char* name) {
  return "layers." + std::to_string(layer) + "." + name;
}

// Some rows of one tensor.
static MatrixLayout rowsOf(const std::string& role, int64_t rows, int64_t cols, Range held) {
  return {held.count, {0, cols}, cols, false, false, {{role, held, rows, 0, kGateBlock}}};
}

// Some columns of one tensor.
static MatrixLayout colsOf(const std::string& role, int64_t rows, int64_t cols, Range held) {
  return {rows, held, cols, true, false, {{role, {0, rows}, rows, 0, kGateBlock}}};
}

MatrixLayout plainLayout(const std::string& role, int64_t rows, int64_t cols) {
  return rowsOf(role, rows, cols, {0, rows});
}

MatrixLayout tokensLayout(const ModelSpec& spec, const Shard& shard) {
  return rowsOf("embed.tokens", spec.vocabSize, spec.embedding.width, shard.vocab);
}

MatrixLayout headLayout(const ModelSpec& spec, const Shard& shard) {
  const HeadSpec head = spec.head();
  return rowsOf("head", head.columns, head.width, head.isVocabulary ? shard.vocab : Range{0, head.columns});
}

MatrixLayout transformLayout(const ModelSpec& spec) {
  return plainLayout("head.dense", spec.head().width, spec.hiddenSize);
}

MatrixLayout scoresLayout(const ModelSpec& spec, const Shard& shard) {
  const LayerSpec* kind = bucketKind(spec);
  const LayerShard& held = shard.kinds[static_cast<size_t>(kind - spec.kinds.data())];
  return colsOf("positions.scores", std::get<BucketPositions>(kind->attention.positions).buckets, kind->attention.heads,
                held.heads);
}

MatrixLayout relativeTableLayout(const ModelSpec& spec) {
  return plainLayout("positions.relative", spec.relativeTable->rows, spec.hiddenSize);
}

MatrixLayout positionsLayout(const ModelSpec& spec) {
  const EmbeddingPositions& positions = *spec.embedding.positions;
  MatrixLayout layout =
      plainLayout("embed.positions", spec.maxPositions + positionOffset(positions), spec.embeddedWidth());
  // Nothing says that the model was trained with sines of 16 bits.
  layout.exact = std::holds_alternative<SinusoidalPositions>(positions);
  return layout;
}

MatrixLayout tokenTypesLayout(const ModelSpec& spec) {
  return plainLayout("embed.token_types", spec.embedding.tokenTypes, spec.embeddedWidth());
}

static const LayerShard& layerShard(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  return shard.kinds[spec.kindOf(layer)];
}

static Range times(Range range, int64_t factor) {
  return {range.first * factor, range.count * factor};
}

AttentionShape attentionShape(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const LayerShard& held = layerShard(spec, shard, layer);
  return {held.heads.count, held.kvHeads.count, spec.layer(layer).attention.headDim};
}

static VectorLayout headsNormLayout(const AttentionSpec& attention, const std::string& role, int64_t heads,
                                    Range held) {
  const int64_t dim = attention.headDim;
  if (attention.qkNorm->span == QkNormSpan::kHead && !attention.qkNorm->headWeights) return {role, dim, {0, dim}};
  return {role, heads * dim, times(held, dim)};
}

VectorLayout queryNormLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  return headsNormLayout(attention, layerRole(layer, "attn.q_norm"), attention.heads,
                         layerShard(spec, shard, layer).heads);
}

VectorLayout keyNormLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  return headsNormLayout(attention, layerRole(layer, "attn.k_norm"), attention.kvHeads,
                         layerShard(spec, shard, layer).kvHeads);
}

VectorLayout sinksLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  return {layerRole(layer, "attn.sinks"), spec.layer(layer).attention.heads, layerShard(spec, shard, layer).heads};
}

std::vector<VectorLayout> vectorLayouts(const ModelSpec& spec, const Shard& shard) {
  std::vector<VectorLayout> layouts;
  for (int64_t layer = 0; layer < spec.layerCount(); ++layer) {
    if (spec.weightLayer(layer) != layer) continue;
    const AttentionSpec& attention = spec.layer(layer).attention;
    if (attention.qkNorm) {
      layouts.push_back(queryNormLayout(spec, shard, layer));
      layouts.push_back(keyNormLayout(spec, shard, layer));
    }
    if (attention.sinks) layouts.push_back(sinksLayout(spec, shard, layer));
  }
  return layouts;
}

static MatrixLayout fusedLayout(const ModelSpec& spec, const Shard& shard, int64_t layer,
                                const std::array<const char*, 3>& roles) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  const int64_t dim = attention.headDim;
  const Range queries = times(layerShard(spec, shard, layer).heads, dim);
  const Range keys = times(layerShard(spec, shard, layer).kvHeads, dim);
  return {queries.count + 2 * keys.count,
          {0, spec.hiddenSize},
          spec.hiddenSize,
          false,
          false,
          {{layerRole(layer, roles[0]), queries, attention.heads * dim, 0, kGateBlock},
           {layerRole(layer, roles[1]), keys, attention.kvHeads * dim, queries.count, kGateBlock},
           {layerRole(layer, roles[2]), keys, attention.kvHeads * dim, queries.count + keys.count, kGateBlock}}};
}

MatrixLayout qkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  return fusedLayout(spec, shard, layer, {"attn.q", "attn.k", "attn.v"});
}

MatrixLayout relativeQkvLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const auto& positions = std::get<RelativePositions>(spec.layer(layer).attention.positions);
  const char* asQuery = positions.keys ? "attn.q_relative" : "attn.k_relative";
  const char* asKey = positions.queries ? "attn.k_relative" : "attn.q_relative";
  return fusedLayout(spec, shard, layer, {asQuery, asKey, asKey});
}

bool separatesRelative(const LayerSpec& kind) {
  const auto* positions = std::get_if<RelativePositions>(&kind.attention.positions);
  return positions && positions->separate;
}

MatrixLayout outputLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  const int64_t width = attention.latent ? attention.latent->valueDim : attention.headDim;
  return colsOf(layerRole(layer, "attn.o"), spec.hiddenSize, attention.heads * width,
                times(layerShard(spec, shard, layer).heads, width));
}

MatrixLayout queryLatentLayout(const ModelSpec& spec, int64_t layer) {
  return plainLayout(layerRole(layer, "attn.q_latent"), spec.layer(layer).attention.latent->queryRank, spec.hiddenSize);
}

MatrixLayout queryLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  const int64_t rank = attention.latent->queryRank;
  return rowsOf(layerRole(layer, "attn.q"), attention.heads * attention.headDim, rank > 0 ? rank : spec.hiddenSize,
                times(layerShard(spec, shard, layer).heads, attention.headDim));
}

MatrixLayout latentLayout(const ModelSpec& spec, int64_t layer) {
  return plainLayout(layerRole(layer, "attn.kv_latent"), spec.layer(layer).attention.latent->rank, spec.hiddenSize);
}

MatrixLayout sharedKeyLayout(const ModelSpec& spec, int64_t layer) {
  return plainLayout(layerRole(layer, "attn.k_shared"), spec.layer(layer).attention.latent->positionDims,
                     spec.hiddenSize);
}

MatrixLayout keysValuesLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const AttentionSpec& attention = spec.layer(layer).attention;
  const LatentAttention& latent = *attention.latent;
  const int64_t keyDim = attention.headDim - latent.positionDims;
  const Range heads = layerShard(spec, shard, layer).heads;
  const Range keys = times(heads, keyDim), values = times(heads, latent.valueDim);
  MatrixLayout layout = rowsOf(layerRole(layer, "attn.k"), attention.heads * keyDim, latent.rank, keys);
  layout.parts.push_back(
      {layerRole(layer, "attn.v"), values, attention.heads * latent.valueDim, keys.count, kGateBlock});
  layout.rows += values.count;
  return layout;
}

int64_t expertRows(int64_t outputs, bool gated) {
  const int64_t blocks = (outputs + kGateBlock - 1) / kGateBlock;
  return (gated ? 2 : 1) * blocks * kGateBlock;
}

// The upward product of the neurons `held`, out of `size`: rows of the role up, or of gate and up interleaved.
static MatrixLayout upwardLayout(const std::string& stem, int64_t size, int64_t cols, Range held, bool gated) {
  if (!gated) return rowsOf(stem + "up", size, cols, held);
  return {expertRows(held.count, true),
          {0, cols},
          cols,
          false,
          false,
          {{stem + "gate", held, size, 0, 2 * kGateBlock}, {stem + "up", held, size, kGateBlock, 2 * kGateBlock}}};
}

static MatrixLayout downwardLayout(const std::string& stem, int64_t size, int64_t rows, Range held) {
  return colsOf(stem + "down", rows, size, held);
}

MatrixLayout upLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const auto& dense = std::get<DenseFeedForward>(spec.layer(layer).feedForward);
  const Range held = layerShard(spec, shard, layer).neurons;
  return upwardLayout(layerRole(layer, "mlp."), dense.size, spec.hiddenSize, held, dense.gated);
}

MatrixLayout downLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const Range held = layerShard(spec, shard, layer).neurons;
  return downwardLayout(layerRole(layer, "mlp."), neurons(spec.layer(layer).feedForward), spec.hiddenSize, held);
}

static const ExpertsFeedForward& expertsOf(const ModelSpec& spec, int64_t layer) {
  return std::get<ExpertsFeedForward>(spec.layer(layer).feedForward);
}

MatrixLayout routerLayout(const ModelSpec& spec, int64_t layer) {
  const ExpertsFeedForward& experts = expertsOf(spec, layer);
  MatrixLayout layout = plainLayout(layerRole(layer, "mlp.router"), experts.count, spec.hiddenSize);
  layout.exact = true;
  if (experts.shared && experts.shared->gated) {
    layout.parts.push_back({layerRole(layer, "mlp.shared.router"), {0, 1}, 1, experts.count, kGateBlock});
    ++layout.rows;
  }
  return layout;
}

// The layouts of all experts, which are alike, one behind the other.
template <typename OneExpert>
static MatrixLayout stackExperts(const ModelSpec& spec, int64_t layer, int64_t rows, OneExpert oneExpert) {
  MatrixLayout all;
  const int64_t count = expertsOf(spec, layer).count;
  for (int64_t expert = 0; expert < count; ++expert) {
    MatrixLayout one = oneExpert(layerRole(layer, "mlp.experts.") + std::to_string(expert) + ".");
    for (MatrixPart& part : one.parts) part.firstRow += expert * rows;
    if (expert == 0)
      all = one;
    else
      all.parts.insert(all.parts.end(), one.parts.begin(), one.parts.end());
  }
  all.rows = count * rows;
  all.stackRows = rows;
  return all;
}

MatrixLayout expertsUpLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const ExpertsFeedForward& experts = expertsOf(spec, layer);
  const Range held = layerShard(spec, shard, layer).neurons;
  return stackExperts(spec, layer, expertRows(held.count, experts.gated), [&](const std::string& stem) {
    return upwardLayout(stem, experts.size, spec.hiddenSize, held, experts.gated);
  });
}

MatrixLayout expertsDownLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const Range held = layerShard(spec, shard, layer).neurons;
  return stackExperts(spec, layer, expertRows(spec.hiddenSize, false), [&](const std::string& stem) {
    return downwardLayout(stem, expertsOf(spec, layer).size, spec.hiddenSize, held);
  });
}

MatrixLayout sharedUpLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const ExpertsFeedForward& experts = expertsOf(spec, layer);
  const Range held = layerShard(spec, shard, layer).sharedNeurons;
  return upwardLayout(layerRole(layer, "mlp.shared."), experts.shared->size, spec.hiddenSize, held, experts.gated);
}

MatrixLayout sharedDownLayout(const ModelSpec& spec, const Shard& shard, int64_t layer) {
  const Range held = layerShard(spec, shard, layer).sharedNeurons;
  return downwardLayout(layerRole(layer, "mlp.shared."), expertsOf(spec, layer).shared->size, spec.hiddenSize, held);
}

bool holdsPositions(const ModelSpec& spec, const Shard& shard) {
  return spec.embedding.positions.has_value() && shard.rank == 0;
}

bool holdsTokenTypes(const ModelSpec& spec, const Shard& shard) {
  return spec.embedding.tokenTypes > 0 && shard.rank == 0;
}

std::vector<MatrixLayout> modelLayouts(const ModelSpec& spec, const Shard& shard) {
  std::vector<MatrixLayout> layouts = {tokensLayout(spec, shard)};
  const HeadSpec head = spec.head();
  if (head.hasMatrix && !head.isTied) layouts.push_back(headLayout(spec, shard));
  if (head.transform) layouts.push_back(transformLayout(spec));
  if (holdsPositions(spec, shard) && std::holds_alternative<LearnedPositions>(*spec.embedding.positions))
    layouts.push_back(positionsLayout(spec));
  if (holdsTokenTypes(spec, shard)) layouts.push_back(tokenTypesLayout(spec));
  if (bucketKind(spec)) layouts.push_back(scoresLayout(spec, shard));
  if (spec.relativeTable) layouts.push_back(relativeTableLayout(spec));
  if (spec.projectsEmbedding())
    layouts.push_back(plainLayout("embed.projection", spec.hiddenSize, spec.embedding.width));
  if (spec.projectsHead()) layouts.push_back(plainLayout("head.projection", spec.embedding.width, spec.hiddenSize));
  for (int64_t n = 0; n < spec.layerCount(); ++n) {
    if (spec.weightLayer(n) != n) continue;
    const auto* experts = std::get_if<ExpertsFeedForward>(&spec.layer(n).feedForward);
    layouts.push_back(outputLayout(spec, shard, n));
    if (const auto& latent = spec.layer(n).attention.latent) {
      if (latent->queryRank > 0) layouts.push_back(queryLatentLayout(spec, n));
      for (auto make : {queryLayout, keysValuesLayout}) layouts.push_back(make(spec, shard, n));
      for (auto make : {latentLayout, sharedKeyLayout}) layouts.push_back(make(spec, n));
    } else {
      layouts.push_back(qkvLayout(spec, shard, n));
      if (separatesRelative(spec.layer(n))) layouts.push_back(relativeQkvLayout(spec, shard, n));
    }
    for (auto make : {experts ? expertsUpLayout : upLayout, experts ? expertsDownLayout : downLayout})
      layouts.push_back(make(spec, shard, n));
    if (experts) layouts.push_back(routerLayout(spec, n));
    if (experts && experts->shared)
      for (auto make : {sharedUpLayout, sharedDownLayout}) layouts.push_back(make(spec, shard, n));
  }
  return layouts;
}

}  // namespace shardspeed
