#include "cuda/tensors.h"

#include "cuda/error.h"
#include "cuda/step_buffers.h"

namespace shardspeed::cuda {

CudaMatrix::CudaMatrix(int64_t rows, int64_t cols, DType dtype, Uploader& uploader)
    : rows_(rows), cols_(cols), dtype_(dtype), uploader_(uploader), memory_(bytesOf(rows, cols, dtype), "weights") {}

void CudaMatrix::write(int64_t firstRow, int64_t count, const void* values) {
  const size_t size = dtypeSize(dtype_);
  const size_t strideBytes = static_cast<size_t>(stride()) * size;
  uploader_.write(memory_.as<uint8_t>() + static_cast<size_t>(firstRow) * strideBytes, count,
                  static_cast<size_t>(cols_) * size, strideBytes, values);
}

CudaVector::CudaVector(const float* values, int64_t size)
    : size_(size), memory_(static_cast<size_t>(padTo(size, kColumnStep)) * sizeof(float), "biases and norms") {
  check(cudaMemcpy(memory_.as(), values, static_cast<size_t>(size) * sizeof(float), cudaMemcpyHostToDevice),
        "loading a bias or norm");
  check(cudaStreamSynchronize(nullptr), "loading a bias or norm");
}

static size_t elementBytes(Width width) {
  return width == Width::kWide ? sizeof(float) : 2;
}

size_t CudaActivations::bytesOf(int64_t capacity, int64_t cols, Width width) {
  return static_cast<size_t>(StepBuffers::paddedRows(capacity) * padTo(cols, kColumnStep)) * elementBytes(width);
}

CudaActivations::CudaActivations(int64_t capacity, int64_t cols, Width width)
    : cols_(cols),
      kind_(width == Width::kWide ? RowKind::kStream : RowKind::kElement),
      memory_(bytesOf(capacity, cols, width), "activations") {}

CudaKvCache::CudaKvCache(int64_t layers, int64_t pages, const AttentionShape& shape, DType dtype)
    : pageBytes_(pageBytes(shape, dtype)),
      layerBytes_(static_cast<size_t>(pages) * pageBytes_),
      memory_(static_cast<size_t>(layers) * layerBytes_, "the KV cache") {}

void CudaKvCache::copyPage(const PageCopy& copy, const Stream& stream) {
  const auto at = [&](int32_t page) { return memory_.as<uint8_t>() + static_cast<size_t>(page) * pageBytes_; };
  check(cudaMemcpy2DAsync(at(copy.to), layerBytes_, at(copy.from), layerBytes_, pageBytes_, bytes() / layerBytes_,
                          cudaMemcpyDeviceToDevice, stream.get()),
        "copying pages of the KV cache");
}

}  // namespace shardspeed::cuda
