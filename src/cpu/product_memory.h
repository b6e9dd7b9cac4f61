#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/tensors.h"

namespace shardspeed {

// Rows up to which every thread computes the norm and packs for itself, which is cheaper than to meet once more.
constexpr int64_t kFewRows = 4;

// The most floats that the products of a model need beside weights and activations.
struct ProductSizes {
  int64_t packed = 0;  // rows of a product as they are read
  int64_t normed = 0;  // rows behind a norm
  // Of each thread:
  int64_t chains = 0;     // (rows, 2, kLanes), twice where gated; or a row
  int64_t fewNormed = 0;  // (kFewRows, stride)
  int64_t fewPacked = 0;  // (kFewRows, columns)

  // Backend::prepareProducts
  void add(int64_t rows, int64_t cols, bool isNormed) {
    const int64_t stride = roundUp(cols, kLanes);
    if (rows > kFewRows) packed = std::max(packed, rows * cols);
    if (isNormed) normed = std::max(normed, rows * stride);
    if (isNormed) fewNormed = std::max(fewNormed, kFewRows * stride);
    chains = std::max({chains, 4 * rows * kLanes, stride});
    fewPacked = std::max(fewPacked, kFewRows * cols);
  }
  size_t bytes(int threads) const {
    return static_cast<size_t>(packed + normed + threads * (chains + fewNormed + fewPacked)) * sizeof(float);
  }
};

// Floats that are taken at their full size before the first step. A backend that nobody prepared, as in tests of single
// products, takes them as they are needed; what was in them is lost then.
class FloatBuffer {
 public:
  float* take(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (bytes > memory_.bytes()) {
      memory_ = Memory();  // first, so that both are never there at once
      memory_ = Memory(bytes, "activations");
    }
    return memory_.as<float>();
  }
  float* data() const { return memory_.as<float>(); }

 private:
  Memory memory_;
};

// A thread's own.
struct ThreadBuffers {
  FloatBuffer chains;
  FloatBuffer normed;
  FloatBuffer packed;
  int64_t readyFor = -1;  // the projection that `normed` and `packed` belong to
};

struct ProductMemory {
  explicit ProductMemory(int count) : threads(static_cast<size_t>(count)) {}

  void prepare(const ProductSizes& sizes) {
    packed.take(sizes.packed);
    normed.take(sizes.normed);
    for (ThreadBuffers& own : threads) {
      own.chains.take(sizes.chains);
      own.normed.take(sizes.fewNormed);
      own.packed.take(sizes.fewPacked);
    }
  }
  ThreadBuffers& of(int worker) { return threads[static_cast<size_t>(worker)]; }

  FloatBuffer packed;
  FloatBuffer normed;
  std::vector<ThreadBuffers> threads;
};

}  // namespace shardspeed
