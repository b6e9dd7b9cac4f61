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

// What one rank keeps in its backend's memory beside the weights.
struct RankParts {
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Executor> executor;
};

// How large it all is.
struct RankSizes {
  int64_t maxRows = 0;    // of a step
  int64_t maxTokens = 0;  // of a sequence
  int64_t kvPages = 0;
};

// Collective, if the backend is of a group. Spec, weights and backend outlive what is made.
RankParts makeRankParts(const ModelSpec& spec, const Shard& shard, const ModelWeights& weights, Backend& backend,
                        const RankSizes& sizes);

// What the rank that holds the shard will take on a device of the kind: its weights and parts are made on a counter.
MemoryEstimate estimateMemory(const DeviceKind& kind, const ModelSpec& spec, const Shard& shard, DType dtype,
                              const RankSizes& sizes);

// Of the index-th rank in this process.
MemoryEstimate estimateMemory(const EngineOptions& options, int index);

// What the ranks of this process will take, by rank.
std::vector<MemoryEstimate> estimateMemory(const EngineOptions& options);

RankSizes sizesOf(const EngineOptions& options);

}  // namespace shardspeed
