#pragma once

#include "backend.h"
#include "cuda/experts.h"
#include "cuda/memory.h"

namespace shardspeed::cuda {

// Memory of a layer's experts beside their weights: the plan of a step, their input rows and their results.
class CudaExpertRows final : public ExpertRows {
 public:
  CudaExpertRows(int64_t capacity, const ExpertShape& shape);
  static size_t bytesOf(int64_t capacity, const ExpertShape& shape);

  const ExpertPlan& plan() const { return plan_; }
  // (rows, wideStride), what the router reads; then (slots, wideStride), what the downward products have computed
  float* wide() const { return wide_.as<float>(); }
  int64_t wideStride() const { return padTo(shape_.hidden, kColumnStep); }
  // T (slots, innerStride)
  void* inner() const { return inner_.as(); }
  int64_t innerStride() const { return padTo(shape_.neurons, kColumnStep); }

 private:
  ExpertShape shape_;
  ExpertPlan plan_;
  DeviceMemory planned_;
  DeviceMemory wide_;
  DeviceMemory inner_;
};

// A layer's experts on the device.
struct ExpertStep {
  DType dtype = DType::kF16;
  const ExpertsCall* call = nullptr;
  int64_t rows = 0;
  const int32_t* positions = nullptr;  // StepView::positions
  cudaStream_t stream = nullptr;
};
// Backend::readExperts of in (rows, inStride). narrow: T (rows, padTo(cols)), for the rows that experts read; shared:
// T (rows, sharedCols) or null.
struct ExpertInput {
  const float* in = nullptr;
  int64_t inStride = 0;
  int64_t cols = 0;
  void* narrow = nullptr;
  void* shared = nullptr;
  int64_t sharedCols = 0;
  int64_t sharedStride = 0;
};
void readExperts(const ExpertStep& step, const ExpertInput& input, const CudaExpertRows& state);
// Backend::addExperts, to out (rows, outStride).
void addExperts(const ExpertStep& step, bool residual, int64_t cols, float* out, int64_t outStride,
                const CudaExpertRows& state);

}  // namespace shardspeed::cuda
