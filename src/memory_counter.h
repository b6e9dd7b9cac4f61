#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>

#include "backend.h"
#include "base/error.h"

namespace shardspeed {

struct MemoryEstimate {
  int64_t weightBytes = 0;      // of matrices
  int64_t activationBytes = 0;  // and all else that does not depend on the KV cache's size
  int64_t kvPageBytes = 0;      // of all layers
};

// A backend that allocates nothing, computes nothing, and adds up what the real one of its kind would take: a rank that
// is built on it says what that rank needs (runtime/memory_estimate.h). Each kind says how large its things are.
// Biases and norm weights are left out: they are little, and known only when the checkpoint has been read.
class MemoryCounter : public Backend {
 public:
  const MemoryEstimate& counted() const { return counted_; }

  std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) final {
    const size_t bytes = matrixBytes(rows, cols, dtype);
    add(bytes, counted_.weightBytes);
    return std::make_unique<CountedMatrix>(rows, cols, dtype, bytes);
  }
  std::unique_ptr<Vector> makeVector(const float*, int64_t size) final { return std::make_unique<CountedVector>(size); }
  std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width width) final {
    countActivations(capacity, cols, width);
    return std::make_unique<CountedActivations>(cols);
  }
  std::unique_ptr<KvCache> makeKvCache(int64_t layers, int64_t pages, const AttentionShape& shape) final {
    counted_.kvPageBytes = static_cast<int64_t>(kvPageBytes(layers, shape));
    countAttention(shape);
    return std::make_unique<CountedCache>(static_cast<size_t>(pages * counted_.kvPageBytes));
  }

  std::unique_ptr<ExpertRows> makeExpertRows(int64_t capacity, const ExpertShape& shape) final {
    countExperts(capacity, shape);
    return std::make_unique<ExpertRows>();
  }

  void embedTokens(const Step&, const Matrix&, int64_t, float, Activations&) final { refuse(); }
  void addPositions(const Step&, const Matrix&, int64_t, Activations&) final { refuse(); }
  void project(const Projection&, int64_t, const Activations&, Activations&) final { refuse(); }
  void normalize(const Norm&, int64_t, Activations&) final { refuse(); }
  void addPart(const Norm*, float, int64_t, const Activations&, Activations&) final { refuse(); }
  void copyPages(const std::vector<PageCopy>&, KvCache&) final { refuse(); }
  void squareHeads(const AttentionCall&, int64_t, const Activations&, Activations&) final { refuse(); }
  void attend(const Step&, const AttentionCall&, Activations&, KvCache&, Activations&) final { refuse(); }
  void gatherRows(const Step&, int64_t, int64_t, const Activations&, Activations&) final { refuse(); }
  void readRows(const Activations&, int64_t, float*) final { refuse(); }

 protected:
  virtual size_t matrixBytes(int64_t rows, int64_t cols, DType dtype) const = 0;
  virtual void countActivations(int64_t capacity, int64_t cols, Width width) = 0;
  // What attention takes beside the cache.
  virtual void countAttention(const AttentionShape& /*shape*/) {}
  virtual void countExperts(int64_t /*capacity*/, const ExpertShape& /*shape*/) {}
  void count(size_t bytes) { add(bytes, counted_.activationBytes); }

 private:
  // Stays at the largest number instead of passing it: the limits of binding/spec_parts.h keep one matrix below it, but
  // not all layers together.
  static void add(size_t bytes, int64_t& total) {
    const auto left = static_cast<size_t>(std::numeric_limits<int64_t>::max() - total);
    total += static_cast<int64_t>(std::min(bytes, left));
  }

  struct CountedMatrix final : Matrix {
    CountedMatrix(int64_t rows, int64_t cols, DType dtype, size_t bytes)
        : rows_(rows), cols_(cols), dtype_(dtype), bytes_(bytes) {}
    int64_t rows() const override { return rows_; }
    int64_t cols() const override { return cols_; }
    DType dtype() const override { return dtype_; }
    size_t bytes() const override { return bytes_; }
    void write(int64_t, int64_t, const void*) override { refuse(); }
    int64_t rows_, cols_;
    DType dtype_;
    size_t bytes_;
  };
  struct CountedVector final : Vector {
    explicit CountedVector(int64_t size) : size_(size) {}
    int64_t size() const override { return size_; }
    int64_t size_;
  };
  struct CountedActivations final : Activations {
    explicit CountedActivations(int64_t cols) : cols_(cols) {}
    int64_t cols() const override { return cols_; }
    int64_t cols_;
  };
  struct CountedCache final : KvCache {
    explicit CountedCache(size_t bytes) : bytes_(bytes) {}
    size_t bytes() const override { return bytes_; }
    size_t bytes_;
  };

  [[noreturn]] static void refuse() { throw Error("ERR_NATIVE", "a memory counter computes nothing"); }

  MemoryEstimate counted_;
};

}  // namespace shardspeed
