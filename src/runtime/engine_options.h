#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "comm/process_group.h"
#include "model/spec.h"
#include "model/weight_plan.h"
#include "runtime/prompt_lookup.h"

namespace shardspeed {

struct EngineOptions {
  ModelSpec spec;
  std::optional<WeightPlan> plan;  // nothing = random weights
  int tpSize = 1;                  // ranks that the model is divided among, in all processes
  int firstRank = 0;               // the rank of this process, the first if it has several
  // One for each rank in this process: tpSize, whose ranks are its threads, or one.
  std::vector<std::string> devices = {"cpu"};
  // Set if the ranks are processes.
  std::optional<ProcessGroupOptions> processes;
  DType dtype = DType::kF32;
  DType communicationDtype = DType::kF32;  // BackendOptions
  int threads = 1;                         // of each rank
  int64_t maxSequenceTokens = 0;
  int64_t maxBatchTokens = 512;
  int64_t kvCachePages = 0;
  LookupOptions lookup;
  bool prefixCache = true;  // sequences that begin alike share pages of the KV cache
  // A model to make drafts with in place of prompt lookup, on one rank, the CPU; null = none.
  std::shared_ptr<const EngineOptions> draftModel;
  int64_t draftTokens = 0;   // most of a draft of that model
  bool weighsDrafts = true;  // none are made where they take longer than they save (runtime/draft_pace.h)
};

}  // namespace shardspeed
