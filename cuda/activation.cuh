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

__device__ __forceinline__ float geluOf(float x) {
  const float inner = erff(__fmul_rn(x, 0.70710678118654752f));
  return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, inner));
}

// A call rather than inlined code, and one sigmoid and one tanh for all that take them: where every value of an
// epilogue has all of these functions, they are most of a kernel.
static __device__ __attribute__((noinline)) float activateOne(ActivationKind kind, float x) {
  switch (kind) {
    case ActivationKind::kRelu:
      return x < 0 ? 0.0f : x;
    case ActivationKind::kReluSquared:
      return x < 0 ? 0.0f : __fmul_rn(x, x);
    case ActivationKind::kGelu:
      return geluOf(x);
    case ActivationKind::kGeluTanh:
    case ActivationKind::kTanh: {
      const bool isTanh = kind == ActivationKind::kTanh;
      const float cubic = fmaf(__fmul_rn(__fmul_rn(x, x), x), 0.044715f, x);
      const float value = tanhf(isTanh ? x : __fmul_rn(0.79788456080286536f, cubic));
      return isTanh ? value : __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, value));
    }
    case ActivationKind::kQuickGelu:
    case ActivationKind::kSilu:
    case ActivationKind::kSigmoid: {
      const float value = sigmoidOf(kind == ActivationKind::kQuickGelu ? __fmul_rn(1.702f, x) : x);
      return kind == ActivationKind::kSigmoid ? value : __fmul_rn(x, value);
    }
    case ActivationKind::kNone:
    case ActivationKind::kXielu:  // by a kernel of its own: applyXielu
      break;
  }
  return x;
}

// values[i] = activation(values[i])
template <int kCount>
__device__ __forceinline__ void activate(ActivationKind kind, float (&values)[kCount]) {
  if (kind == ActivationKind::kNone || kind == ActivationKind::kXielu) return;
#pragma unroll
  for (float& value : values) value = activateOne(kind, value);
}

}  // namespace shardspeed::cuda
