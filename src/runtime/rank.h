#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "comm/group.h"
#include "model/row_reader.h"
#include "model/weights.h"
#include "runtime/engine_options.h"
#include "runtime/rank_parts.h"

namespace shardspeed {

struct RankMemory {
  int64_t weightBytes = 0;
  int64_t kvCacheBytes = 0;
  int64_t activationBytes = 0;
};

// What the ranks of this process count while they load.
struct LoadCounts {
  std::atomic<int64_t> loadedBytes{0};
  std::atomic<int64_t> totalBytes{0};
  OverflowCounts overflows;
};

// One rank of an engine: its part of the model in its backend's memory, and the steps that it computes there. Lives on
// one thread.
class Rank {
 public:
  // index: of options.devices. group: null for one rank alone. pool: another rank's, whose thread this one lives on;
  // null = its own. Options, group, stop and pool outlive it.
  Rank(const EngineOptions& options, int index, Group* group, const std::atomic<bool>& stop,
       ThreadPool* pool = nullptr);

  // Collective: returns when all ranks have loaded. Calls onProgress, if set, while it loads. beside: memory that this
  // rank's thread takes for something else.
  void load(LoadCounts& counts, const std::function<void()>& onProgress, const RankMemory& beside = {});
  // Of all ranks, in order.
  const std::vector<RankMemory>& memory() const { return memory_; }

  // Rank 0: computes a step together with the others. False if `stop` was set meanwhile.
  bool run(const Step& step, const Executor::Outputs& outputs);
  // Rank 0: whether what these choose may be taken later, of a step that samples nothing else. At most two steps may be
  // left at a time.
  bool canLeave(const std::vector<const SamplingState*>& samplers) const;
  // Rank 0: waits for the tokens of the first step that was left.
  void take(SampledToken* sampled);
  // The others: compute rank 0's steps until the group ends, which throws, or `stop` is set.
  void follow();

  // Waits for unfinished work of the backend.
  void finish() noexcept { backend_->finish(); }

  int64_t groupNanoseconds() const { return backend_->groupNanoseconds(); }
  ThreadPool& pool() { return pool_; }
  bool computesRowsApart() const { return backend_->computesRowsApart(); }
  std::vector<int64_t> promptLimits() const { return backend_->promptLimits(); }

 private:
  const EngineOptions& options_;
  int index_;
  Group* group_;
  const std::atomic<bool>& stop_;
  Shard shard_;
  std::optional<ThreadPool> ownPool_;
  ThreadPool& pool_;
  std::unique_ptr<Backend> backend_;
  ModelWeights weights_;
  RankParts parts_;
  std::vector<RankMemory> memory_;
  int left_ = 0;  // steps, whose tokens have not been taken
};

}  // namespace shardspeed
