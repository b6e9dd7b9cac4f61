#include "comm/shared_reduce.h"

#include <chrono>
#include <cmath>
#include <thread>

#include "check.h"
#include "comm/thread_group.h"
#include "group_ranks.h"
#include "random.h"

namespace shardspeed::test {

namespace {

float valueOf(int round, int rank, int64_t row, int64_t col) {
  return static_cast<float>(
      std::sin(1.0 + round * 0.7 + rank * 1.3 + static_cast<double>(row) * 0.11 + static_cast<double>(col) * 0.013));
}

// Sums and gathers in turn; every rank checks every result bit by bit.
void checkRounds(int ranks, int threads, int64_t rows, int64_t stride, uint32_t firstEpoch, bool skewed) {
  const Note note(ranks, "ranks", threads, "threads", rows, "rows of", stride);
  const int rounds = kReduced ? 4 : 12;
  std::atomic<int64_t> wrong{0};
  runRanks(makeThreadGroup(ranks), [&](Group& group) {
    ThreadPool pool(threads);
    SharedReduce reduce(group, rows * stride, rows % 2 == 1, firstEpoch);
    std::vector<float> found(static_cast<size_t>(rows * stride));
    Random random(static_cast<uint64_t>(group.rank()) + 7);
    for (int round = 0; round < rounds; ++round) {
      if (skewed) std::this_thread::sleep_for(std::chrono::microseconds(random.below(300)));
      float* slot = reduce.slot();
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t col = 0; col < stride; ++col) slot[row * stride + col] = valueOf(round, group.rank(), row, col);
      if (round % 3 == 2) {
        int next = 0;
        reduce.gather([&](int rank, const float* part) {
          if (rank != next++) ++wrong;
          for (int64_t i = 0; i < rows * stride; ++i)
            if (part[i] != valueOf(round, rank, i / stride, i % stride)) ++wrong;
        });
        if (next != (group.rank() == 0 ? ranks : 0)) ++wrong;
        continue;
      }
      reduce.sum(rows, stride, pool, [&](int64_t row, const float* const* parts, int count) {
        for (int64_t col = 0; col < stride; ++col) {
          float total = parts[0][col];
          for (int i = 1; i < count; ++i) total += parts[i][col];
          found[static_cast<size_t>(row * stride + col)] = total;
        }
      });
      for (int64_t i = 0; i < rows * stride; ++i) {
        float expected = valueOf(round, 0, i / stride, i % stride);
        for (int rank = 1; rank < ranks; ++rank) expected += valueOf(round, rank, i / stride, i % stride);
        if (found[static_cast<size_t>(i)] != expected) ++wrong;
      }
    }
    if (reduce.nanoseconds() <= 0) ++wrong;
  });
  CHECK_EQ(wrong.load(), 0);
}

}  // namespace

TEST(shared_reduce, all_ranks_get_the_sum_in_the_order_of_the_ranks) {
  for (const int ranks : {1, 2, 3, 4, 8})
    for (const int64_t rows : {1, 3, 17}) {
      checkRounds(ranks, 1, rows, 48, 0, false);
      checkRounds(ranks, 2, rows, 16, 0, true);
    }
}

TEST(shared_reduce, large_sums_are_shared_out) {
  // Beyond kOnePassBytes, with shares that differ by a row, and with fewer rows than ranks.
  const int64_t floats = SharedReduce::kOnePassBytes / static_cast<int64_t>(sizeof(float));
  for (const int ranks : {2, 3, 4, 8}) {
    checkRounds(ranks, 1, 67, floats / 67 / 16 * 16 + 16, 0, true);
    checkRounds(ranks, 2, 2, floats / 2 + 16, 0, false);
  }
}

TEST(shared_reduce, the_epoch_wraps_around) {
  for (const int ranks : {2, 4, 8}) checkRounds(ranks, 1, 5, 32, 0xfffffffau, true);
}

TEST(shared_reduce, a_rank_that_fails_ends_the_others_waiting) {
  for (const int ranks : {2, 4}) {
    std::atomic<int> ended{0};
    runRanks(makeThreadGroup(ranks), [&](Group& group) {
      ThreadPool pool(1);
      SharedReduce reduce(group, 64);
      const auto ignore = [](int64_t, const float* const*, int) {};
      reduce.sum(1, 64, pool, ignore);
      if (group.rank() == 1) return group.fail("rank 1 has had enough");
      try {
        reduce.sum(1, 64, pool, ignore);
      } catch (const Error& error) {
        if (error.code() == "ERR_COMM" && std::string(error.what()) == "rank 1 has had enough") ++ended;
      }
    });
    CHECK_EQ(ended.load(), ranks - 1);
  }
}

}  // namespace shardspeed::test
