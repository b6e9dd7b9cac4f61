#include "memory_counter.h"

#include "comm/shared_reduce.h"
#include "cpu/cpu_backend.h"
#include "cpu/experts.h"
#include "cpu/product_memory.h"
#include "cpu/rotary.h"
#include "cpu/tensors.h"

namespace shardspeed {

namespace {

class CpuMemoryCounter final : public MemoryCounter {
 public:
  CpuMemoryCounter(int rank, int threads) : rank_(rank), threads_(threads) {}

  size_t kvPageBytes(int64_t layers, const AttentionShape& shape) const override {
    return CpuKvCache::bytesOf(layers, 1, shape);
  }
  void prepareRotary(const std::vector<RotarySpec>& tables, int64_t maxPositions) override {
    for (const RotarySpec& table : tables) count(RotaryTables::bytesOf(table, maxPositions));
  }
  // Rank 0 samples on the host, from rows that it copies there.
  void prepareSampling(int64_t vocab, int64_t maxRows) override {
    if (rank_ == 0) count(static_cast<size_t>(maxRows * vocab) * sizeof(float));
  }
  void prepareProducts(int64_t rows, int64_t cols, bool isNormed) override {
    const size_t before = products_.bytes(threads_);
    products_.add(rows, cols, isNormed);
    count(products_.bytes(threads_) - before);
  }
  // Each rank's part of what they share.
  void prepareGroup(const GroupShapes& shapes) override {
    const size_t ranks = shapes.logitCols.size();
    count(SharedReduce::bytesOf(static_cast<int>(ranks), cpuSlotFloats(shapes)) / ranks);
  }

 protected:
  size_t matrixBytes(int64_t rows, int64_t cols, DType dtype) const override {
    return CpuMatrix::bytesOf(rows, cols, dtype);
  }
  void countActivations(int64_t capacity, int64_t cols, Width) override {
    count(CpuActivations::bytesOf(capacity, cols));
  }
  void countExperts(int64_t capacity, const ExpertShape& shape) override {
    count(CpuExpertRows::bytesOf(capacity, shape, threads_));
  }

 private:
  int rank_;
  int threads_;
  ProductSizes products_;
};

}  // namespace

DeviceKind cpuDeviceKind() {
  return {[](int, const BackendOptions& options) { return makeCpuBackend(*options.pool, options.group); },
          [](int rank, const BackendOptions& options) -> std::unique_ptr<MemoryCounter> {
            return std::make_unique<CpuMemoryCounter>(rank, options.threads);
          },
          unsupportedCpuAttention};
}

}  // namespace shardspeed
