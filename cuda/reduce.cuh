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

// Sums of kCount values of each lane, a power of two, whose bits are those of warpSum: each lane gets one of them, in
// fewer steps than for all. Returns which; own = its sum.
template <int kCount>
__device__ __forceinline__ int sumAcrossLanes(float (&values)[kCount], float& own) {
  static_assert((kCount & (kCount - 1)) == 0 && kCount <= 32);
  const unsigned lane = threadIdx.x % 32;
  int which = 0;
#pragma unroll
  for (int count = kCount, distance = 16; distance > 0; distance >>= 1) {
    if (count == 1) {
      values[0] += __shfl_xor_sync(0xffffffffu, values[0], distance);
      continue;
    }
    count /= 2;
    const bool upper = (lane & static_cast<unsigned>(distance)) != 0;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const float kept = upper ? values[count + i] : values[i];
      values[i] = kept + __shfl_xor_sync(0xffffffffu, upper ? values[i] : values[count + i], distance);
    }
    if (upper) which += count;
  }
  own = values[0];
  return which;
}

}  // namespace shardspeed::cuda
