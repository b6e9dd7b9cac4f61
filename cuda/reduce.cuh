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

}  // namespace shardspeed::cuda
