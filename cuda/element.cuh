#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ptx.cuh"

// The 16-bit element types of weights, activations and KV cache: __half and __nv_bfloat16.

namespace shardspeed::cuda {

__device__ __forceinline__ float toFloat(__half value) {
  return __half2float(value);
}
__device__ __forceinline__ float toFloat(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

// Rounds to nearest even. What is too large for fp16 becomes the largest number instead of infinity: a feed-forward
// activation that saturates loses nothing that matters, one infinity makes NaN of the whole sequence. NaN stays NaN.
constexpr float kLargestHalf = 65504.0f;
template <typename T>
__device__ __forceinline__ T fromFloat(float value);
template <>
__device__ __forceinline__ __half fromFloat<__half>(float value) {
  return __float2half_rn(clampedTo(kLargestHalf, value));
}
template <>
__device__ __forceinline__ __nv_bfloat16 fromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Eight elements at a time, as they lie in 16 bytes.
template <typename T>
union Pack8 {
  uint4 bits;
  T values[8];
  __device__ __forceinline__ Pack8() : bits{0, 0, 0, 0} {}
  __device__ __forceinline__ explicit Pack8(uint4 loaded) : bits(loaded) {}
};

// Two elements as they lie in a register of an mma operand, the first in the low half.
template <typename T>
__device__ __forceinline__ uint32_t pack2(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack2<__half>(float low, float high) {
  return packHalves(clampedTo(kLargestHalf, low), clampedTo(kLargestHalf, high));
}
template <>
__device__ __forceinline__ uint32_t pack2<__nv_bfloat16>(float low, float high) {
  return packBfloats(low, high);
}

}  // namespace shardspeed::cuda
