#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "comm/process_group.h"
#include "model/spec.h"
#include "model/weight_plan.h"

namespace shardspeed {

struct EngineOptions {
  ModelSpec spec;
  std::optional<WeightPlan> plan;  // nothing = random weights
  // One for each rank in this process. If there are several, the ranks are threads.
  std::vector<std::string> devices = {"cpu"};
  // Set if this process is one rank of several. Then devices has one element.
  std::optional<ProcessGroupOptions> processes;
  DType dtype = DType::kF32;
  int threads = 1;  // of each rank
  int64_t maxSequenceTokens = 0;
  int64_t maxBatchTokens = 512;
  int64_t kvCachePages = 0;

  int firstRank() const { return processes ? processes->rank : 0; }
  int groupSize() const { return processes ? processes->size : static_cast<int>(devices.size()); }
};

}  // namespace shardspeed
