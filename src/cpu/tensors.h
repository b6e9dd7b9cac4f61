#pragma once

#include <vector>

#include "backend.h"
#include "cpu/kernels.h"
#include "cpu/memory.h"

namespace shardspeed {

constexpr int64_t roundUp(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

// Weights in panels of kLanes rows, (panel, cols, kLanes): vector lanes are output rows, so that products need no sums
// across lanes and one layout serves a single token as well as hundreds.
class CpuMatrix final : public Matrix {
 public:
  CpuMatrix(int64_t rows, int64_t cols, DType dtype);
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  size_t bytes() const override { return memory_.bytes(); }
  void write(int64_t firstRow, int64_t count, const void* values) override;
  static size_t bytesOf(int64_t rows, int64_t cols, DType dtype) {
    return static_cast<size_t>(roundUp(rows, kLanes) * cols) * dtypeSize(dtype);
  }

  int64_t panels() const { return roundUp(rows_, kLanes) / kLanes; }
  const void* panel(int64_t index) const {
    return memory_.as<uint8_t>() + static_cast<size_t>(index * cols_ * kLanes) * dtypeSize(dtype_);
  }
  // One row as fp32.
  void readRow(int64_t row, float* out) const;

 private:
  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  Memory memory_;
};

// Padded with zeros to a whole vector.
class CpuVector final : public Vector {
 public:
  CpuVector(const float* values, int64_t size);
  int64_t size() const override { return size_; }
  const float* data() const { return values_.data(); }

 private:
  int64_t size_;
  std::vector<float> values_;
};

inline const float* dataOf(const Vector* vector) {
  return vector ? static_cast<const CpuVector*>(vector)->data() : nullptr;
}

// fp32 rows, each padded to a whole vector.
class CpuActivations final : public Activations {
 public:
  CpuActivations(int64_t capacity, int64_t cols)
      : cols_(cols), stride_(roundUp(cols, kLanes)), memory_(bytesOf(capacity, cols), "activations") {}
  static size_t bytesOf(int64_t capacity, int64_t cols) {
    return static_cast<size_t>(capacity * roundUp(cols, kLanes)) * sizeof(float);
  }
  int64_t cols() const override { return cols_; }
  int64_t stride() const { return stride_; }
  float* row(int64_t index) { return memory_.as<float>() + index * stride_; }
  const float* row(int64_t index) const { return memory_.as<float>() + index * stride_; }

 private:
  int64_t cols_;
  int64_t stride_;
  Memory memory_;
};

// fp32 keys and values, (layer, page, KV head): K (headDimPadded, kPageTokens), then V (kPageTokens, headDimPadded).
class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(int64_t layers, int64_t pages, const AttentionShape& shape);
  size_t bytes() const override { return memory_.bytes(); }
  static int64_t headFloats(const AttentionShape& shape) { return 2 * kPageTokens * roundUp(shape.headDim, kLanes); }
  static size_t bytesOf(int64_t layers, int64_t pages, const AttentionShape& shape) {
    return static_cast<size_t>(layers * pages * shape.kvHeads * headFloats(shape)) * sizeof(float);
  }

  // Of page 0; the head's part of page p lies p * pageStride() floats further.
  float* head(int64_t layer, int64_t kvHead) {
    return memory_.as<float>() + layer * pages_ * pageStride() + kvHead * headFloats_;
  }
  int64_t pageStride() const { return kvHeads_ * headFloats_; }
  int64_t layers() const { return layers_; }
  void copyPage(int64_t layer, const PageCopy& copy);

 private:
  int64_t layers_;
  int64_t pages_;
  int64_t kvHeads_;
  int64_t headFloats_;
  Memory memory_;
};

}  // namespace shardspeed
