#include "cpu/measure.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/thread_pool.h"
#include "cpu/cpu_features.h"
#include "cpu/memory.h"

namespace shardspeed {

template <typename Body>
static double seconds(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double measureReadBandwidth(size_t bytes, int threads, int rounds) {
  constexpr int64_t kBlock = 1 << 18;  // floats that a thread takes at a time
  const KernelTable& kernels = chooseKernels();
  const Memory memory(bytes, "buffers", PageKind::kHuge);
  auto* values = memory.as<float>();
  const auto blocks = static_cast<int64_t>(bytes / sizeof(float)) / kBlock;
  std::fill(values, values + blocks * kBlock, 1.0f);
  ThreadPool pool(threads);
  std::vector<float> sums(static_cast<size_t>(threads) * 16);
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    const double time = seconds([&] {
      pool.forEach(blocks, [&](int64_t block, int worker) {
        sums[static_cast<size_t>(worker) * 16] += kernels.readSum(values + block * kBlock, kBlock);
      });
    });
    best = std::max(best, static_cast<double>(blocks * kBlock) * sizeof(float) / time);
  }
  return best;
}

double measureFmaPeak(int threads, int rounds) {
  constexpr int64_t kRounds = 4'000'000;
  const KernelTable& kernels = chooseKernels();
  ThreadPool pool(threads);
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> operations(static_cast<size_t>(threads));
    std::vector<float> sinks(static_cast<size_t>(threads) * 16);
    const double time = seconds([&] {
      // As many small parts as balance the threads.
      pool.forEach(16 * threads, [&](int64_t, int worker) {
        operations[static_cast<size_t>(worker)] +=
            kernels.fmaRounds(kRounds / 16, &sinks[static_cast<size_t>(worker) * 16]);
      });
    });
    double total = 0;
    for (const double count : operations) total += count;
    best = std::max(best, total / time);
  }
  return best;
}

}  // namespace shardspeed
