#include "cpu/measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "comm/shared_reduce.h"
#include "comm/thread_group.h"
#include "cpu/cpu_features.h"
#include "cpu/kernels.h"

namespace shardspeed {

namespace {

constexpr int64_t kRowFloats = 1024;
constexpr int kBatch = 10;  // operations between two looks at the clock

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void reduceOften(Group& group, int64_t bytes, int rounds, std::vector<double>& seconds) {
  const int64_t floats = std::max<int64_t>(16, bytes / static_cast<int64_t>(sizeof(float)));
  const int64_t stride = std::min(floats, kRowFloats);
  const int64_t rows = floats / stride;
  const KernelTable& kernels = chooseKernels();
  ThreadPool pool(1);
  SharedReduce reduce(group, floats);
  std::vector<float> out(static_cast<size_t>(floats));
  const auto finish = [&](int64_t row, const float* const* parts, int count) {
    kernels.sumRows({parts, count, nullptr, true, stride, out.data() + row * stride});
  };
  for (int batch = -1; batch < rounds / kBatch; ++batch) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kBatch; ++i) reduce.sum(rows, stride, pool, finish);
    if (group.rank() == 0 && batch >= 0) seconds.push_back(secondsSince(start) / kBatch);
  }
}

}  // namespace

double measureAllReduce(int ranks, int64_t bytes, int rounds) {
  auto groups = makeThreadGroup(ranks);
  std::vector<double> seconds;
  std::exception_ptr failure;
  const auto run = [&](int rank) {
    Group& group = *groups[static_cast<size_t>(rank)];
    try {
      reduceOften(group, bytes, std::max(rounds, kBatch), seconds);
    } catch (...) {
      if (rank == 0) failure = std::current_exception();
      group.fail("measuring failed");
    }
  };
  std::vector<std::thread> others;
  for (int rank = 1; rank < ranks; ++rank) others.emplace_back(run, rank);
  run(0);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  return median(seconds);
}

double measureCopy(int64_t bytes, int rounds) {
  std::vector<uint8_t> from(static_cast<size_t>(bytes), 1), to(from.size());
  std::vector<double> seconds;
  for (int batch = -1; batch < std::max(1, rounds / kBatch); ++batch) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kBatch; ++i) {
      from[0] = static_cast<uint8_t>(i);
      std::memcpy(to.data(), from.data(), from.size());
      asm volatile("" : : "r"(to.data()) : "memory");
    }
    if (batch >= 0) seconds.push_back(secondsSince(start) / kBatch);
  }
  return median(seconds);
}

}  // namespace shardspeed
