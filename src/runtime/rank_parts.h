#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend_kind.h"
#include "memory_counter.h"
#include "model/shard.h"
#include "model/spec.h"
#include "model/weights.h"
#include "runtime/engine_options.h"
#include "runtime/executor.h"

namespace shardspeed {

// A rank's objects in its backend's memory, beside the weights.
struct RankParts {
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Executor> executor;
};

// Their sizes.
struct RankSizes {
  int64_t maxRows = 0;    // of a step
  int64_t maxTokens = 0;  // of a sequence
  int64_t kvPages = 0;
  int threads = 1;
  DType communicationDtype = DType::kF32;
};

// Collective if the backend belongs to a group. Spec, weights and backend outlive the parts.
RankParts makeRankParts(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend,
                        const RankSizes& sizes);

// Memory that the rank of this shard takes on a device of this kind: builds weights and parts on a MemoryCounter.
MemoryEstimate estimateMemory(const DeviceKind& kind, const ModelSpec& spec, const Shard& shard, DType dtype,
                              const RankSizes& sizes);

// Of the index-th rank in this process.
MemoryEstimate estimateMemory(const EngineOptions& options, int index);

// Of all ranks in this process, in order.
std::vector<MemoryEstimate> estimateMemory(const EngineOptions& options);

RankSizes sizesOf(const EngineOptions& options);

}  // namespace shardspeed
