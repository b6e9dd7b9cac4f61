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

// All threads of the block get the sum. partial: shared memory of one float a warp, which this call may overwrite and
// leaves free. Every thread of the block must call it.
__device__ __forceinline__ float blockSum(float value, float* partial) {
  const int warp = threadIdx.x / 32;
  const int warps = (blockDim.x + 31) / 32;
  value = warpSum(value);
  if (threadIdx.x % 32 == 0) partial[warp] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < warps; ++i) total += partial[i];
  __syncthreads();
  return total;
}

}  // namespace shardspeed::cuda
