#include "memory_counter.h"

#include <algorithm>

#include "cuda/attention.h"
#include "cuda/chosen_tokens.h"
#include "cuda/collectives.h"
#include "cuda/cuda_backend.h"
#include "cuda/expert_rows.h"
#include "cuda/products.h"
#include "cuda/step_buffers.h"
#include "cuda/tensors.h"
#include "cuda/token_chooser.h"

namespace shardspeed::cuda {

namespace {

// Counts memory of the device. Nothing here talks to one.
class CudaMemoryCounter final : public MemoryCounter {
 public:
  CudaMemoryCounter(int rank, const BackendOptions& options) : rank_(rank), options_(options) {
    count(StepBuffers::bytesOf(options.maxRows, options.kvPages));
  }

  size_t kvPageBytes(int64_t layers, const AttentionShape& shape) const override {
    return static_cast<size_t>(layers) * CudaKvCache::pageBytes(shape, options_.dtype);
  }
  int64_t logitRows() const override { return kLogitRows; }
  void prepareRotary(const std::vector<RotarySpec>&, int64_t) override {}  // some frequencies
  void prepareSampling(int64_t vocab, int64_t maxRows) override {
    count(scratchBytes_ + Products::bytesOf(narrowRows_, narrowCols_));
    const int64_t rows = StepBuffers::paddedRows(maxRows);
    if (rank_ == 0) count(TokenChooser::bytesOf(vocab, rows, options_.kvPages * kPageTokens));
  }
  void prepareGroup(const GroupShapes& shapes) override {
    count(Collectives::bytesOf(shapes, rank_, options_.communicationDtype) + ChosenTokens::bytesOf(shapes));
  }

 protected:
  size_t matrixBytes(int64_t rows, int64_t cols, DType dtype) const override {
    return CudaMatrix::bytesOf(rows, cols, dtype);
  }
  void countActivations(int64_t capacity, int64_t cols, Width width) override {
    count(CudaActivations::bytesOf(capacity, cols, width));
    if (width == Width::kWide) {
      scratchBytes_ = std::max(scratchBytes_, CudaActivations::bytesOf(capacity, cols, Width::kNarrow));
    } else {
      narrowRows_ = std::max(narrowRows_, StepBuffers::paddedRows(capacity));
      narrowCols_ = std::max(narrowCols_, cols);
    }
  }
  void countAttention(const AttentionShape& shape) override {
    count(decodeWorkspaceBytes(shape, decodeSlots(shape, options_.maxRows)));
  }

  void countExperts(int64_t capacity, const ExpertShape& shape) override {
    count(CudaExpertRows::bytesOf(capacity, shape));
  }

 private:
  int rank_;
  BackendOptions options_;
  // Largest sizes among the activations made so far, as CudaBackend::makeActivations keeps them.
  size_t scratchBytes_ = 0;
  int64_t narrowRows_ = 0;
  int64_t narrowCols_ = 0;
};

}  // namespace

DeviceKind cudaDeviceKind() {
  return {makeCudaBackend,
          [](int rank, const BackendOptions& options) -> std::unique_ptr<MemoryCounter> {
            return std::make_unique<CudaMemoryCounter>(rank, options);
          },
          unsupportedCudaAttention};
}

}  // namespace shardspeed::cuda
