#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "comm/group.h"

namespace shardspeed {

// All-reduce and gather over memory that all ranks see, for ranks on processors.
//
// Each rank has two slots, used in turn, into which its product writes partial sums directly. Up to kOnePassBytes every
// rank then adds up everything itself, which takes one meeting. Beyond, with more than two ranks, each adds up its
// share of the rows and the others fetch that: two meetings, but 2 reads of each sum instead of as many as there are
// ranks. Either way the ranks' parts are added in the order of the ranks, so all ranks get the same bits, whatever else
// is in the step. With two slots one meeting is enough: before a rank writes into a slot again, it has met the others
// at a time when they had read the slot. (DeepSpeed's csrc/cpu/comm/shm.cpp does much the same.)
class SharedReduce {
 public:
  static constexpr int64_t kOnePassBytes = 256 << 10;

  // Collective. floats: most that a rank puts into a slot. firstEpoch: for tests of the counter's wrap-around.
  // crowded: see spin.h.
  SharedReduce(Group& group, int64_t floats, bool crowded = false, uint32_t firstEpoch = 0);

  // Bytes that all ranks together share.
  static size_t bytesOf(int ranks, int64_t floats);

  // The place for this rank's part of the next operation.
  float* slot() const { return slotOf(group_.rank()); }

  // Sums rows of `stride` floats in the slots. finish(row, parts, count) adds up `count` parts of the row, parts[i]
  // each, and uses the sum; it is called on the pool's threads.
  using Finish = std::function<void(int64_t row, const float* const* parts, int count)>;
  void sum(int64_t rows, int64_t stride, ThreadPool& pool, const Finish& finish);

  // Calls take(rank, its slot) for every rank, on rank 0 only.
  void gather(const std::function<void(int rank, const float* slot)>& take);

  // Time of all operations so far, with the waiting for slower ranks.
  int64_t nanoseconds() const { return nanoseconds_; }

 private:
  struct alignas(64) Arrival {
    std::atomic<uint32_t> epoch;
  };

  float* slotOf(int rank) const;
  Arrival& arrivalOf(int rank) const;
  // Waits until all ranks are here.
  void meet();

  Group& group_;
  std::shared_ptr<uint8_t> memory_;
  int64_t slotFloats_;
  bool crowded_;
  uint32_t epoch_;
  uint32_t operation_ = 0;
  int64_t nanoseconds_ = 0;
};

}  // namespace shardspeed
