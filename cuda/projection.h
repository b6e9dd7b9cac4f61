#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "cuda/step_view.h"
#include "model/spec.h"

// out = f(norm(in) W^T + bias), with the residual sum: everything between two attentions (Backend::project).

namespace shardspeed::cuda {

// Matrices and rows of activations are padded with zeros to multiples of kColumnStep columns, weights also to a
// multiple of kRowStep rows: kernels have no tails to load.
constexpr int64_t kColumnStep = 64;
constexpr int64_t kRowStep = 64;

constexpr int64_t padTo(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

struct NormParams {
  NormKind kind = NormKind::kLayer;
  float epsilon = 1e-5f;
  const float* weight = nullptr;  // (padded cols), null = ones
  const float* bias = nullptr;    // (padded cols), null = zeros
};

// Where results go and sums come from. The residual stream is fp32: sums of a hundred layers keep their small terms,
// and OPT's large ones do not overflow.
enum class RowKind : uint8_t {
  kElement,  // T
  kStream,   // fp32
};

struct ProjectionParams {
  DType dtype = DType::kF16;  // T
  int64_t rows = 0;           // tokens
  int64_t outFeatures = 0;    // rows of the weight, without padding
  int64_t inFeatures = 0;  // columns of the weight, without padding; its row stride is padTo(inFeatures, kColumnStep)
  const void* weight = nullptr;  // T
  const float* bias = nullptr;   // (padded out features) or null
  const void* in = nullptr;      // (rows, inStride)
  RowKind inKind = RowKind::kElement;
  int64_t inStride = 0;              // in elements; >= the weight's row stride
  const NormParams* norm = nullptr;  // only where in is the stream
  void* out = nullptr;               // (rows, outStride); columns from the output width on are not written
  RowKind outKind = RowKind::kElement;
  int64_t outStride = 0;
  ActivationKind activation = ActivationKind::kNone;
  bool gated = false;       // weight rows are blocks of kGateBlock gate rows, then their up rows; out is half as wide
  bool residual = false;    // out += instead of out =; only where out is the stream
  void* scratch = nullptr;  // T (rows, padTo(inFeatures)): where in is the stream
  cudaStream_t stream = nullptr;
};

// A row's bits depend on the row and the weights alone: the same for one row and for thousands. Two launches where the
// norm is not fused into the product (many rows), else one.
void project(const ProjectionParams& params);

// --- cuda/norm.cu

// out[row] = T(norm(in[row])), or just T(in[row]) where norm is null; in (rows, inStride) fp32, out (rows, outStride).
// Writes the padding of out as zeros.
void normalizeRows(DType dtype, int64_t rows, int64_t cols, const float* in, int64_t inStride, const NormParams* norm,
                   void* out, int64_t outStride, cudaStream_t stream);
// x[row] += scale norm(part[row]), or scale part[row] where norm is null; fp32, all of one stride
void addNormalized(int64_t rows, int64_t cols, const float* part, const NormParams* norm, float scale, float* x,
                   int64_t stride, cudaStream_t stream);
// x[row] = norm(x[row]), fp32
void normalizeStream(int64_t rows, int64_t cols, float* x, int64_t stride, const NormParams& norm, cudaStream_t stream);
// out[i] = the mean of norm(in), or of `in` where norm is null, over the sequence that row indices[i] of the step is
// of, all of which is in the step; fp32; entries < 0 are skipped
void averageRows(const StepView& step, const int32_t* indices, int64_t count, int64_t cols, const float* in,
                 int64_t inStride, const NormParams* norm, float* out, int64_t outStride, cudaStream_t stream);

}  // namespace shardspeed::cuda
