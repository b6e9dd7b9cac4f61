#pragma once

#include <cuda_runtime.h>

#include "cuda/element.cuh"

// Rotary position embedding (Su et al., RoFormer, 2021): pair j of elements, which are j and j + half or, interleaved,
// 2 j and 2 j + 1, turns by position * inverseFrequencies[j]. Decode and append share it, so that a key has the same
// bits whichever wrote it.

namespace shardspeed::cuda {

// Cosines and sines (half) of a position, times the amplitude behind the frequencies, by the threads of the block
// together; a barrier must follow. The angle is rounded to fp32, as the models were trained with; it may be thousands
// of turns, which the fast approximations of sine and cosine do not stand.
__device__ __forceinline__ void turnAngles(int position, const float* inverseFrequencies, int half, float* cosines,
                                           float* sines) {
  for (int j = threadIdx.x; j < half; j += blockDim.x) {
    const float angle = static_cast<float>(position) * inverseFrequencies[j];
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    cosines[j] = cosine * inverseFrequencies[half];
    sines[j] = sine * inverseFrequencies[half];
  }
}

// The sums are written as fused ones: where it was left to the compiler which product to round, kernels could differ.
template <typename T>
__device__ __forceinline__ void turnPair(T& first, T& second, float cosine, float sine) {
  const float a = toFloat(first);
  const float b = toFloat(second);
  first = fromFloat<T>(fmaf(a, cosine, -(b * sine)));
  second = fromFloat<T>(fmaf(b, cosine, a * sine));
}

// One warp: out (width) = in (headDim) turned and rounded to T, then zeros.
template <typename T>
__device__ __forceinline__ void turnHead(const T* in, int headDim, int half, bool interleaved, const float* cosines,
                                         const float* sines, T* out, int width) {
  const int lane = threadIdx.x % 32;
  for (int j = lane; j < half; j += 32) {
    const int at = interleaved ? 2 * j : j;
    const int other = interleaved ? at + 1 : at + half;
    T first = in[at];
    T second = in[other];
    turnPair(first, second, cosines[j], sines[j]);
    out[at] = first;
    out[other] = second;
  }
  for (int j = 2 * half + lane; j < width; j += 32) out[j] = j < headDim ? in[j] : fromFloat<T>(0);
}

}  // namespace shardspeed::cuda
