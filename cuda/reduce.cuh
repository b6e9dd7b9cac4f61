#pragma once

#include <cuda_runtime.h>

namespace shardspeed::cuda {

// All lanes get the result; one order of addition, the same bits every time.
__device__ __forceinline__ float warpSum(float value) {
  for (int distance = 16; distance > 0; distance >>= 1) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
__device__ __forceinline__ float warpMax(float value) {
  for (int distance = 16; distance > 0; distance >>= 1)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// Sums of kCount values of each lane, a power of two, whose bits are those of warpSum, in fewer steps than for each: a
// lane gets one of them as values[0]. Returns which. Lanes that differ in bits below 32 / kCount alone have the same.
template <int kCount, int kDistance = 16, int kAll>
__device__ __forceinline__ int sumAcrossLanes(float (&values)[kAll]) {
  static_assert((kCount & (kCount - 1)) == 0 && kCount <= 32);
  if constexpr (kDistance == 0) {
    return 0;
  } else if constexpr (kCount == 1) {
    values[0] += __shfl_xor_sync(0xffffffffu, values[0], kDistance);
    return sumAcrossLanes<1, kDistance / 2>(values);
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (threadIdx.x & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float kept = upper ? values[kHalf + i] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, upper ? values[i] : values[kHalf + i], kDistance);
    }
    const int which = upper ? kHalf : 0;
    return which + sumAcrossLanes<kHalf, kDistance / 2>(values);
  }
}

}  // namespace shardspeed::cuda
