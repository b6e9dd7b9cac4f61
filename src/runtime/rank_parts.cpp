#include "runtime/rank_parts.h"

#include "model/layout.h"
#include "model/loader.h"
#include "runtime/device.h"

namespace shardspeed {

RankParts makeRankParts(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend,
                        const RankSizes& sizes) {
  RankParts parts;
  const int64_t cachedLayers = seesLater(spec) ? 1 : spec.layerCount();
  parts.cache = backend.makeKvCache(cachedLayers, sizes.kvPages, attentionShape(spec, shard, 0));  // all have one
  parts.executor =
      std::make_unique<Executor>(spec, shard, weights, backend, *parts.cache, sizes.maxRows, sizes.maxTokens);
  return parts;
}

MemoryEstimate estimateMemory(const DeviceKind& kind, const ModelSpec& spec, const Shard& shard, DType dtype,
                              const RankSizes& sizes) {
  BackendOptions options;
  options.dtype = dtype;
  options.maxRows = sizes.maxRows;
  options.kvPages = sizes.kvPages;
  options.threads = sizes.threads;
  options.communicationDtype = sizes.communicationDtype;
  const std::unique_ptr<MemoryCounter> counter = kind.makeCounter(shard.rank, options);
  const ModelWeights weights = placeWeights(spec, shard, dtype, *counter);
  makeRankParts(spec, shard, weights, *counter, sizes);
  return counter->counted();
}

MemoryEstimate estimateMemory(const EngineOptions& options, int index) {
  const Shard shard = shardOf(options.spec, options.firstRank + index, options.tpSize);
  const DeviceKind kind = deviceOf(options.devices[static_cast<size_t>(index)]).kind;
  return estimateMemory(kind, options.spec, shard, options.dtype, sizesOf(options));
}

std::vector<MemoryEstimate> estimateMemory(const EngineOptions& options) {
  std::vector<MemoryEstimate> estimates;
  for (size_t i = 0; i < options.devices.size(); ++i) estimates.push_back(estimateMemory(options, static_cast<int>(i)));
  return estimates;
}

RankSizes sizesOf(const EngineOptions& options) {
  return {options.maxBatchTokens, options.maxSequenceTokens, options.kvCachePages, options.threads,
          options.communicationDtype};
}

}  // namespace shardspeed
