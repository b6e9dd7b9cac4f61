#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "backend.h"
#include "base/thread_pool.h"
#include "model/spec.h"
#include "model/weight_plan.h"
#include "model/weights.h"

namespace shardspeed {

struct LoadOptions {
  DType dtype = DType::kF32;
  const WeightPlan* plan = nullptr;  // null = random weights
  std::function<void(int64_t loadedBytes, int64_t totalBytes)> onProgress;
  const std::atomic<bool>* stop = nullptr;  // set by another thread: loading ends with ERR_ABORTED
};

// Reads every role into the backend's memory, converted to the engine's dtype. Throws Error; nothing stays allocated
// then.
ModelWeights loadModel(const ModelSpec& spec, const LoadOptions& options, Backend& backend, ThreadPool& pool);

// What loadModel will allocate for weights, in bytes.
int64_t estimateWeightBytes(const ModelSpec& spec, DType dtype);

}  // namespace shardspeed
