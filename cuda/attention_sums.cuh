#pragma once

#include <cuda_runtime.h>

#include "cuda/attention_args.cuh"
#include "cuda/attention_pages.cuh"
#include "cuda/ptx.cuh"
#include "cuda/rotary.cuh"

// The sums of a decode block: each warp's over its pages, and how a block joins them.

namespace shardspeed::cuda {

constexpr int kDecodeWarps = 4;  // of a block
constexpr int kDecodeHeads = 8;  // query heads of a block, the width of an mma

// Pages that a warp has under way or computes: 16 KB, so that a block keeps enough under way for a multiprocessor whose
// memory it has alone, and fits on devices with 99 KB.
template <int kDim>
constexpr int kRingPages = kDim <= 64    ? 4
                           : kDim <= 128 ? 2
                                         : 1;

template <typename T, int kDim>
struct alignas(16) DecodeShared {
  // Rows of q half a line of banks apart, so that 8 lanes of a 16-byte load meet no bank twice.
  static constexpr int kQueryStride = kDim % 64 == 0 ? kDim + 32 : kDim;
  static constexpr int kSumStride = kDim + 4;

  struct RingPage {
    PagePieces<kDim> keys;
    PagePieces<kDim> values;
  };
  // A warp's pages, and in their place its sums when it has computed all.
  union Warp {
    RingPage ring[kRingPages<kDim>];
    float sums[kDecodeHeads * kSumStride];
  };

  Warp warps[kDecodeWarps];
  T lines[kDecodeHeads + 2][kQueryStride];  // queries, then key and value of the row itself

  __device__ __forceinline__ const T* key() const { return lines[kDecodeHeads]; }
  __device__ __forceinline__ const T* value() const { return lines[kDecodeHeads + 1]; }

  float largest[kDecodeWarps][kDecodeHeads];
  float total[kDecodeWarps][kDecodeHeads];
  float cosines[kMostTileDim / 2];
  float sines[kMostTileDim / 2];
  uint32_t before;
};

// Online softmax (Milakov and Gimelshein, 2018) of a warp over its pages. Lane (g, t) follows head g: with the three
// lanes beside it it has all tokens; sums are of heads 2 t and 2 t + 1 (ValuePage).
template <typename T, int kDim>
struct WarpSums {
  float largest = -INFINITY;  // of the scores, as ScoreRule::score makes them
  float total = 0;            // of this lane's tokens
  float sums[kDim / 16][4] = {};

  __device__ __forceinline__ void add(const AttentionArgs<T>& args, float (&scores)[2][4],
                                      const PagePieces<kDim>& values, float slope, int firstToken, int firstVisible,
                                      int position) {
    const int t = threadIdx.x % 4;
    float high = largest;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = firstToken + 8 * n + 2 * t + i;
        const float score = args.rule.score(scores[n][i], slope, token - position);
        scores[n][i] = token >= firstVisible && token <= position ? score : -INFINITY;
        high = fmaxf(high, scores[n][i]);
      }
    high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
    high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
    const float weight = args.rule.weight;
    const float factor = exp2Fast((largest - high) * weight);  // a page has a visible token, so `high` is finite
    largest = high;
    float weights[2][2];
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) weights[n][i] = exp2Fast(fmaf(scores[n][i], weight, -high * weight));
    total = total * factor + ((weights[0][0] + weights[0][1]) + (weights[1][0] + weights[1][1]));
    const float evenFactor = __shfl_sync(0xffffffffu, factor, 8 * t);
    const float oddFactor = __shfl_sync(0xffffffffu, factor, 8 * t + 4);
#pragma unroll
    for (auto& sum : sums) {
      sum[0] *= evenFactor;
      sum[1] *= oddFactor;
      sum[2] *= evenFactor;
      sum[3] *= oddFactor;
    }
    ValuePage<T, kDim>::accumulate(
        values, {packWeights<T>(weights[0][0], weights[0][1]), packWeights<T>(weights[1][0], weights[1][1])}, sums);
  }

  // Behind a barrier of the warp: other lanes' pages lie there.
  __device__ __forceinline__ void store(DecodeShared<T, kDim>& shared, float weight) {
    using Shared = DecodeShared<T, kDim>;
    const int warp = threadIdx.x / 32;
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    if (t == 0) {
      shared.largest[warp][g] = largest * weight;
      shared.total[warp][g] = total;
    }
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      float* head = shared.warps[warp].sums + (2 * t + odd) * Shared::kSumStride;
#pragma unroll
      for (int tile = 0; tile < kDim / 16; tile += 2) {
        constexpr int kWide = kDim / 64 * 4;  // tiles of whole blocks
        const int dimension = tile < kWide ? tile / 4 * 64 + 8 * g + tile % 4 * 2 : kDim / 64 * 64 + 4 * g;
        *reinterpret_cast<float4*>(head + dimension) =
            float4{sums[tile][odd], sums[tile][odd + 2], sums[tile + 1][odd], sums[tile + 1][odd + 2]};
      }
    }
  }
};

// Joins the warps' sums: (largest, total) of a head, and by what each warp's sums are to be multiplied.
struct HeadJoin {
  float largest;
  float total;
  float factors[kDecodeWarps];

  template <typename Shared>
  __device__ __forceinline__ HeadJoin(const Shared& shared, int head) {
    largest = shared.largest[0][head];
#pragma unroll
    for (int warp = 1; warp < kDecodeWarps; ++warp) largest = fmaxf(largest, shared.largest[warp][head]);
    total = 0;
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      factors[warp] = exp2Fast(shared.largest[warp][head] - largest);
      total = fmaf(shared.total[warp][head], factors[warp], total);
    }
  }
};

}  // namespace shardspeed::cuda
