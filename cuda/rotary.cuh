#pragma once

#include <cuda_runtime.h>

#include "cuda/element.cuh"

// Rotary position embedding (Su et al., RoFormer, 2021): pair j of elements, which are j and j + half or, interleaved,
// 2 j and 2 j + 1, turns by position * inverseFrequencies[j]. Decode and append share it, so that a key has the same
// bits whichever wrote it.

namespace shardspeed::cuda {

// Within 2 ulp for any angle that a position has. sincosf reduces large angles in local memory, by code larger than all
// of this; so few are computed that double precision costs nothing. Polynomials: Cephes, sindef.c and cosdef.c.
__device__ __forceinline__ void sineCosine(float angle, float& sine, float& cosine) {
  constexpr double kQuarterTurn = 1.5707963267948966, kRestOfQuarterTurn = 6.123233995736766e-17;
  const double quarters = rint(static_cast<double>(angle) * 0.6366197723675814);
  const double rest = fma(-quarters, kRestOfQuarterTurn, fma(-quarters, kQuarterTurn, static_cast<double>(angle)));
  const auto x = static_cast<float>(rest);
  const float square = __fmul_rn(x, x);
  const float odd = fmaf(fmaf(-1.9515295891e-4f, square, 8.3321608736e-3f), square, -1.6666654611e-1f);
  const float even = fmaf(fmaf(2.443315711809948e-5f, square, -1.388731625493765e-3f), square, 4.166664568298827e-2f);
  const float nearZero = fmaf(__fmul_rn(odd, square), x, x);
  const float nearOne = fmaf(__fmul_rn(even, square), square, fmaf(-0.5f, square, 1.0f));
  const auto quadrant = static_cast<int>(quarters);
  sine = quadrant % 2 == 0 ? nearZero : nearOne;
  cosine = quadrant % 2 == 0 ? nearOne : nearZero;
  if ((quadrant & 2) != 0) sine = -sine;
  if (((quadrant + 1) & 2) != 0) cosine = -cosine;
}

// Cosines and sines (half) of a position, times the amplitude behind the frequencies, by the threads of the block
// together; a barrier must follow. The angle is rounded to fp32, as the models were trained with; it may be thousands
// of turns, which the fast approximations of sine and cosine do not stand.
__device__ __forceinline__ void turnAngles(int position, const float* inverseFrequencies, int half, float* cosines,
                                           float* sines) {
#pragma unroll 1
  for (int j = threadIdx.x; j < half; j += blockDim.x) {
    const float angle = static_cast<float>(position) * inverseFrequencies[j];
    float sine, cosine;
    sineCosine(angle, sine, cosine);
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

// A warp turns a head in place.
template <typename T>
__device__ __forceinline__ void turnHead(T* head, int half, bool interleaved, const float* cosines,
                                         const float* sines) {
#pragma unroll 1
  for (int j = threadIdx.x % 32; j < half; j += 32) {
    const int at = interleaved ? 2 * j : j;
    turnPair(head[at], head[interleaved ? at + 1 : at + half], cosines[j], sines[j]);
  }
}

}  // namespace shardspeed::cuda
