#include "comm/shared_reduce.h"

#include <chrono>

#include "base/spin.h"

namespace shardspeed {

namespace {

constexpr int64_t kSlotStep = 1024;  // floats: slots begin on pages

int64_t slotFloatsFor(int64_t floats) {
  return (floats + kSlotStep - 1) / kSlotStep * kSlotStep;
}

// Adds its own lifetime to a counter.
class Timer {
 public:
  explicit Timer(int64_t& nanoseconds) : nanoseconds_(nanoseconds) {}
  ~Timer() { nanoseconds_ += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  int64_t& nanoseconds_;
  Clock::time_point start_ = Clock::now();
};

// Rows [first, first + count).
struct Rows {
  int64_t first;
  int64_t count;
};

// The rows that one rank adds up for all.
Rows shareOf(int64_t rows, int rank, int ranks) {
  const int64_t first = rows * rank / ranks;
  return {first, rows * (rank + 1) / ranks - first};
}

}  // namespace

static_assert(std::atomic<uint32_t>::is_always_lock_free, "ranks may be processes");

size_t SharedReduce::bytesOf(int ranks, int64_t floats) {
  const auto count = static_cast<size_t>(ranks);
  return count * 2 * static_cast<size_t>(slotFloatsFor(floats)) * sizeof(float) + count * sizeof(Arrival);
}

SharedReduce::SharedReduce(Group& group, int64_t floats, bool crowded, uint32_t firstEpoch)
    : group_(group),
      memory_(group.shareMemory(bytesOf(group.size(), floats))),
      slotFloats_(slotFloatsFor(floats)),
      crowded_(crowded),
      epoch_(firstEpoch) {
  arrivalOf(group.rank()).epoch.store(firstEpoch);
  if (firstEpoch != 0) group.exchange({});
}

float* SharedReduce::slotOf(int rank) const {
  return reinterpret_cast<float*>(memory_.get()) + (2 * rank + static_cast<int>(operation_ % 2)) * slotFloats_;
}

SharedReduce::Arrival& SharedReduce::arrivalOf(int rank) const {
  uint8_t* arrivals = memory_.get() + static_cast<size_t>(group_.size()) * 2 * static_cast<size_t>(slotFloats_) * 4;
  return reinterpret_cast<Arrival*>(arrivals)[rank];
}

void SharedReduce::meet() {
  arrivalOf(group_.rank()).epoch.store(++epoch_, std::memory_order_release);
  for (int rank = 0; rank < group_.size(); ++rank) {
    const std::atomic<uint32_t>& epoch = arrivalOf(rank).epoch;
    // Compared by the difference, since the number wraps around.
    const auto arrived = [&] { return static_cast<int32_t>(epoch.load(std::memory_order_acquire) - epoch_) >= 0; };
    spinUntil([&] { return arrived() || group_.over(); }, crowded_);
    if (!arrived()) group_.check();
  }
}

void SharedReduce::sum(int64_t rows, int64_t stride, ThreadPool& pool, const Finish& finish) {
  const Timer timer(nanoseconds_);
  const int ranks = group_.size();
  std::vector<const float*> slots;
  for (int rank = 0; rank < ranks; ++rank) slots.push_back(slotOf(rank));
  const auto parts = [&](int64_t row, const float** of) {
    for (int rank = 0; rank < ranks; ++rank) of[rank] = slots[static_cast<size_t>(rank)] + row * stride;
  };
  meet();
  if (ranks <= 2 || rows * stride * static_cast<int64_t>(sizeof(float)) <= kOnePassBytes) {
    pool.forEach(rows, [&](int64_t row, int) {
      const float* of[kMostRanks];
      parts(row, of);
      finish(row, of, ranks);
    });
  } else {
    const Rows mine = shareOf(rows, group_.rank(), ranks);
    // Only this rank reads its share of its slot until the next meeting.
    float* target = slot();
    pool.forEach(mine.count, [&](int64_t i, int) {
      const float* of[kMostRanks];
      parts(mine.first + i, of);
      float* sums = target + (mine.first + i) * stride;
      for (int64_t k = 0; k < stride; ++k) {
        float total = of[0][k];
        for (int rank = 1; rank < ranks; ++rank) total += of[rank][k];
        sums[k] = total;
      }
    });
    meet();
    pool.forEach(rows, [&](int64_t row, int) {
      int owner = static_cast<int>(row * ranks / rows);
      while (shareOf(rows, owner, ranks).first + shareOf(rows, owner, ranks).count <= row) ++owner;
      const float* sums = slots[static_cast<size_t>(owner)] + row * stride;
      finish(row, &sums, 1);
    });
  }
  ++operation_;
}

void SharedReduce::gather(const std::function<void(int rank, const float* slot)>& take) {
  const Timer timer(nanoseconds_);
  meet();
  if (group_.rank() == 0)
    for (int rank = 0; rank < group_.size(); ++rank) take(rank, slotOf(rank));
  ++operation_;
}

}  // namespace shardspeed
