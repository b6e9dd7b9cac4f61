#include "runtime/layers/latent_attention.h"

#include <algorithm>

namespace shardspeed {

LatentHeadsPart::LatentHeadsPart(const PartContext& context) : context_(context) {
  for (size_t kind = 0; kind < context.spec.kinds.size(); ++kind) {
    const AttentionSpec& attention = context.spec.kinds[kind].attention;
    Buffers& buffers = buffers_.emplace_back();
    if (!attention.latent) continue;
    const LatentAttention& latent = *attention.latent;
    const int64_t heads = context.shard.kinds[kind].heads.count;
    context.backend.prepareProducts(context.maxRows, std::max(latent.queryRank, latent.rank), true);
    // Norms read rows of the same width as the residual stream's.
    if (latent.queryRank > 0) buffers.queryLatent = bufferOf(latent.queryRank, Width::kWide, 0);
    buffers.queries = bufferOf(heads * attention.headDim, Width::kNarrow, 1);
    buffers.latent = bufferOf(latent.rank, Width::kWide, 2);
    buffers.sharedKey = bufferOf(latent.positionDims, Width::kNarrow, 3);
    buffers.keysValues =
        bufferOf(heads * (attention.headDim - latent.positionDims + latent.valueDim), Width::kNarrow, 4);
    buffers.narrowed = bufferOf(heads * latent.valueDim, Width::kNarrow, 5);
  }
}

Activations* LatentHeadsPart::bufferOf(int64_t cols, Width width, int use) {
  for (const Known& known : known_)
    if (known.cols == cols && known.use == use) return known.rows.get();
  known_.push_back({cols, use, context_.backend.makeActivations(context_.maxRows, cols, width)});
  return known_.back().rows.get();
}

LatentHeads LatentHeadsPart::headsOf(int64_t layer) const {
  const AttentionSpec& attention = context_.spec.layer(layer).attention;
  return {context_.layerShard(layer).heads.count, attention.headDim, attention.latent->positionDims,
          attention.latent->valueDim};
}

void LatentHeadsPart::read(const Step& step, int64_t layer, const Norm* norm, const Activations& hidden,
                           Activations& qkv) {
  const LatentWeights& weights = *context_.layer(layer).attention.latent;
  const Buffers& buffers = buffersOf(layer);
  Backend& backend = context_.backend;
  const auto project = [&](const Linear& linear, const Norm* ahead, const Activations& in, Activations& out) {
    backend.project(PartContext::columns(linear, ahead), step.rows, in, out);
  };
  if (buffers.queryLatent) {
    project(weights.queryLatent, norm, hidden, *buffers.queryLatent);
    project(weights.query, &weights.queryNorm.norm, *buffers.queryLatent, *buffers.queries);
  } else {
    project(weights.query, norm, hidden, *buffers.queries);
  }
  project(weights.sharedKey, norm, hidden, *buffers.sharedKey);
  project(weights.latent, norm, hidden, *buffers.latent);
  project(weights.keysValues, &weights.latentNorm.norm, *buffers.latent, *buffers.keysValues);
  backend.joinHeads(headsOf(layer), step.rows, *buffers.queries, *buffers.sharedKey, *buffers.keysValues, qkv);
}

const Activations& LatentHeadsPart::narrow(const Step& step, int64_t layer, const Activations& mixed) {
  Activations& narrowed = *buffersOf(layer).narrowed;
  context_.backend.narrowHeads(headsOf(layer), step.rows, mixed, narrowed);
  return narrowed;
}

}  // namespace shardspeed
