#pragma once

#include <cuda_runtime.h>

#include "model/spec.h"

// The functions between the two matrices of a feed-forward block, in fp32, as PyTorch defines them.

namespace shardspeed::cuda {

// Products and sums are spelled out with their rounding, so that no compiler fuses them in one kernel and not in
// another: results must be equal wherever this is inlined. A NaN stays NaN.
__device__ __forceinline__ float sigmoidOf(float x) {
  return 1.0f / __fadd_rn(1.0f, expf(-x));
}

__device__ __forceinline__ float geluTanhOf(float x) {
  const float cubic = fmaf(__fmul_rn(__fmul_rn(x, x), x), 0.044715f, x);
  const float inner = tanhf(__fmul_rn(0.79788456080286536f, cubic));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, inner));
}

__device__ __forceinline__ float geluOf(float x) {
  const float inner = erff(__fmul_rn(x, 0.70710678118654752f));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, inner));
}

// values[i] = activation(values[i]). One switch for all of them.
template <int kCount>
__device__ __forceinline__ void activate(ActivationKind kind, float (&values)[kCount]) {
  const auto each = [&values](auto function) {
#pragma unroll
    for (float& value : values) value = function(value);
  };
  switch (kind) {
    case ActivationKind::kNone:
      return;
    case ActivationKind::kRelu:
      return each([](float x) { return x < 0 ? 0.0f : x; });
    case ActivationKind::kReluSquared:
      return each([](float x) { return x < 0 ? 0.0f : __fmul_rn(x, x); });
    case ActivationKind::kGelu:
      return each([](float x) { return geluOf(x); });
    case ActivationKind::kGeluTanh:
      return each([](float x) { return geluTanhOf(x); });
    case ActivationKind::kQuickGelu:
      return each([](float x) { return __fmul_rn(x, sigmoidOf(__fmul_rn(1.702f, x))); });
    case ActivationKind::kSilu:
      return each([](float x) { return __fmul_rn(x, sigmoidOf(x)); });
    case ActivationKind::kTanh:
      return each([](float x) { return tanhf(x); });
    case ActivationKind::kSigmoid:
      return each([](float x) { return sigmoidOf(x); });
    case ActivationKind::kXielu:
      return;  // by a kernel of its own: applyXielu
  }
}

}  // namespace shardspeed::cuda
