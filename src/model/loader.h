#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "backend.h"
#include "base/thread_pool.h"
#include "model/row_reader.h"
#include "model/shard.h"
#include "model/spec.h"
#include "model/weight_plan.h"
#include "model/weights.h"

namespace shardspeed {

struct LoadOptions {
  std::optional<Shard> shard;  // none = the whole model
  DType dtype = DType::kF32;
  const WeightPlan* plan = nullptr;  // null = random weights
  // Called once, with the bytes that will be read.
  std::function<void(int64_t totalBytes)> onPlanned;
  // Called on the pool's threads, whenever one has read some.
  std::function<void(int64_t bytes, int worker)> onLoaded;
  const std::atomic<bool>* stop = nullptr;  // set by another thread: loading ends with ERR_ABORTED
  OverflowCounts* overflows = nullptr;      // of matrices, where dtype is fp16; vectors stay fp32
  std::function<void()> check;              // called on the pool's threads: what it throws ends loading
};

// Reads the rank's part of every role into the backend's memory, converted to the engine's dtype; no more of the files
// than that is read, but for what lies between. Throws Error; nothing stays allocated then.
ModelWeights loadModel(const ModelSpec& spec, const LoadOptions& options, Backend& backend, ThreadPool& pool);

// The matrices that loadModel makes, without values: for a backend that counts (memory_counter.h).
ModelWeights placeWeights(const ModelSpec& spec, const Shard& shard, DType dtype, Backend& backend);

}  // namespace shardspeed
