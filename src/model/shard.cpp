#include "model/shard.h"

#include <algorithm>

#include "backend.h"

namespace shardspeed {

namespace {

// The index-th of `parts` parts of `units`, which differ by one unit at most.
Range deal(int64_t units, int64_t index, int64_t parts) {
  const int64_t first = units * index / parts;
  return {first, units * (index + 1) / parts - first};
}

// In whole blocks where every part gets one, so that kernels see few partial blocks.
Range dealBlocks(int64_t units, int64_t index, int64_t parts) {
  const int64_t blocks = (units + kGateBlock - 1) / kGateBlock;
  if (blocks < parts) return deal(units, index, parts);
  const Range dealt = deal(blocks, index, parts);
  const int64_t first = dealt.first * kGateBlock;
  return {first, std::min(units, (dealt.first + dealt.count) * kGateBlock) - first};
}

void dealHeads(const AttentionSpec& spec, int rank, int size, LayerShard& shard) {
  const int64_t group = spec.heads / spec.kvHeads;
  if (size <= spec.kvHeads) {
    shard.kvHeads = deal(spec.kvHeads, rank, size);
    shard.heads = {shard.kvHeads.first * group, shard.kvHeads.count * group};
    return;
  }
  // The KV head whose ranks this one is among.
  int64_t kvHead = 0;
  Range ranks = deal(size, kvHead, spec.kvHeads);
  while (ranks.first + ranks.count <= rank) ranks = deal(size, ++kvHead, spec.kvHeads);
  const Range queries = deal(group, rank - ranks.first, ranks.count);
  shard.kvHeads = {kvHead, 1};
  shard.heads = {kvHead * group + queries.first, queries.count};
}

}  // namespace

int64_t neurons(const FeedForwardSpec& spec) {
  return std::visit([](const auto& form) { return form.size; }, spec);
}

int64_t sharedNeurons(const FeedForwardSpec& spec) {
  const auto* experts = std::get_if<ExpertsFeedForward>(&spec);
  return experts && experts->shared ? experts->shared->size : 0;
}

Shard wholeModel(const ModelSpec& spec) {
  return shardOf(spec, 0, 1);
}

Shard shardOf(const ModelSpec& spec, int rank, int size) {
  Shard shard;
  shard.rank = rank;
  shard.size = size;
  shard.vocab = dealBlocks(spec.vocabSize, rank, size);
  for (const LayerSpec& kind : spec.kinds) {
    LayerShard& layer = shard.kinds.emplace_back();
    dealHeads(kind.attention, rank, size, layer);
    layer.neurons = dealBlocks(neurons(kind.feedForward), rank, size);
    layer.sharedNeurons = dealBlocks(sharedNeurons(kind.feedForward), rank, size);
  }
  return shard;
}

int64_t largestGroup(const ModelSpec& spec) {
  int64_t largest = spec.vocabSize;
  for (const LayerSpec& kind : spec.kinds) {
    largest = std::min({largest, kind.attention.heads, neurons(kind.feedForward)});
    if (const int64_t shared = sharedNeurons(kind.feedForward)) largest = std::min(largest, shared);
  }
  return largest;
}

}  // namespace shardspeed
