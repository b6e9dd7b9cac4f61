#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "base/thread_pool.h"
#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/measure.h"
#include "cpu/memory.h"

namespace shardspeed {

namespace {

template <typename Body>
double secondsOf(Body&& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Numbers between -1 and 1 that cost little.
void fillWithNoise(float* values, int64_t count) {
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    values[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
}

// A step of some sequences, whose pages lie anywhere.
struct MeasuredStep {
  explicit MeasuredStep(const AttentionSize& size) {
    const int64_t each = roundUp(size.context, kPageTokens) / kPageTokens;
    pages.resize(static_cast<size_t>(size.sequences * each));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::minstd_rand(1));
    step.rows = size.sequences * size.rows;
    for (int64_t s = 0; s < size.sequences; ++s)
      step.sequences.push_back(
          {s * size.rows, size.rows, size.context - size.rows, size.context, pages.data() + s * each});
  }
  std::vector<int32_t> pages;
  Step step;
};

}  // namespace

AttentionTimes measureAttention(const AttentionSize& size, int threads, int rounds) {
  constexpr int64_t kBlock = 1 << 16;  // floats that a thread reads at a time
  const KernelTable& kernels = chooseKernels();
  const MeasuredStep measured(size);
  const auto pages = static_cast<int64_t>(measured.pages.size());
  ThreadPool pool(threads);
  CpuAttention attention(pool, kernels);
  CpuKvCache cache(size.layers, pages, size.shape);
  const auto floats = static_cast<int64_t>(cache.bytes() / sizeof(float));
  fillWithNoise(cache.head(0, 0), floats);
  const Memory plain(cache.bytes(), "buffers", PageKind::kHuge);
  std::fill_n(plain.as<float>(), floats, 1.0f);
  const auto& [heads, kvHeads, dim] = size.shape;
  CpuActivations qkv(measured.step.rows, (heads + 2 * kvHeads) * dim), out(measured.step.rows, heads * dim);
  fillWithNoise(qkv.row(0), measured.step.rows * qkv.stride());
  AttentionCall call;
  call.shape = size.shape;
  call.scale = 1 / std::sqrt(static_cast<float>(dim));
  std::vector<float> sums(static_cast<size_t>(threads) * kLanes);
  AttentionTimes times;
  times.bytes = cache.bytes();
  for (int round = -1; round < rounds; ++round) {
    const double attended = secondsOf([&] {
      for (call.layer = 0; call.layer < size.layers; ++call.layer)
        attention.attend(measured.step, call, qkv, cache, out);
    });
    const double read = secondsOf([&] {
      pool.forEach((floats + kBlock - 1) / kBlock, [&](int64_t block, int worker) {
        const int64_t count = std::min(kBlock, floats - block * kBlock);
        sums[static_cast<size_t>(worker * kLanes)] += kernels.readSum(plain.as<float>() + block * kBlock, count);
      });
    });
    if (round < 0) continue;
    times.attend.push_back(attended);
    times.read.push_back(read);
  }
  return times;
}

}  // namespace shardspeed
