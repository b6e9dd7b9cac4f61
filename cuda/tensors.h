#pragma once

#include "backend.h"
#include "cuda/attention.h"
#include "cuda/memory.h"
#include "cuda/projection.h"
#include "cuda/uploader.h"

// Backend's tensors on a CUDA device. Rows and columns are padded with zeros (cuda/projection.h).

namespace shardspeed::cuda {

class CudaMatrix final : public Matrix {
 public:
  CudaMatrix(int64_t rows, int64_t cols, DType dtype, Uploader& uploader);
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  size_t bytes() const override { return memory_.bytes(); }
  void write(int64_t firstRow, int64_t count, const void* values) override;
  static size_t bytesOf(int64_t rows, int64_t cols, DType dtype) {
    return static_cast<size_t>(padTo(rows, kRowStep) * padTo(cols, kColumnStep)) * dtypeSize(dtype);
  }

  const void* data() const { return memory_.as(); }  // (padded rows, stride)
  int64_t stride() const { return padTo(cols_, kColumnStep); }

 private:
  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  Uploader& uploader_;
  DeviceMemory memory_;
};

class CudaVector final : public Vector {
 public:
  CudaVector(const float* values, int64_t size);
  int64_t size() const override { return size_; }
  const float* data() const { return memory_.as<float>(); }

 private:
  int64_t size_;
  DeviceMemory memory_;
};

// fp32 where wide, else the backend's dtype. The capacity covers what a graph adds to a step.
class CudaActivations final : public Activations {
 public:
  CudaActivations(int64_t capacity, int64_t cols, Width width);
  int64_t cols() const override { return cols_; }
  static size_t bytesOf(int64_t capacity, int64_t cols, Width width);

  RowKind kind() const { return kind_; }
  int64_t stride() const { return padTo(cols_, kColumnStep); }
  void* data() const { return memory_.as(); }

 private:
  int64_t cols_;
  RowKind kind_;
  DeviceMemory memory_;
};

// (layers, pages, kvHeads, 2, kPageTokens, headDimPadded): cuda/attention.h.
class CudaKvCache final : public KvCache {
 public:
  CudaKvCache(int64_t layers, int64_t pages, const AttentionShape& shape, DType dtype);
  size_t bytes() const override { return memory_.bytes(); }
  static size_t pageBytes(const AttentionShape& shape, DType dtype) {
    return static_cast<size_t>(shape.kvHeads * 2 * kPageTokens * attentionPadding(shape.headDim)) * dtypeSize(dtype);
  }
  void* layer(int64_t index) const { return memory_.as<uint8_t>() + static_cast<size_t>(index) * layerBytes_; }
  // Of all layers.
  void copyPage(const PageCopy& copy, const Stream& stream);

 private:
  size_t pageBytes_;
  size_t layerBytes_;
  DeviceMemory memory_;
};

// Backend's tensors as what they are here.
inline const CudaMatrix& of(const Matrix& matrix) {
  return static_cast<const CudaMatrix&>(matrix);
}
inline const CudaActivations& of(const Activations& activations) {
  return static_cast<const CudaActivations&>(activations);
}
inline const float* dataOf(const Vector* vector) {
  return vector ? static_cast<const CudaVector*>(vector)->data() : nullptr;
}
inline float* streamOf(const Activations& activations) {
  return static_cast<float*>(of(activations).data());
}
inline NormParams normParams(const Norm& norm) {
  return {norm.kind, norm.epsilon, dataOf(norm.weight), dataOf(norm.bias)};
}

}  // namespace shardspeed::cuda
