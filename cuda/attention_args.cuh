#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "cuda/attention.h"
#include "cuda/element.cuh"
#include "cuda/ptx.cuh"

// What the attention kernels share: their arguments, where keys and values lie, and how scores become weights.

namespace shardspeed::cuda {

constexpr int kPage = static_cast<int>(kPageTokens);
constexpr float kLog2E = 1.44269504088896341f;

// A score that is capped or falls with the distance. A call, since a kernel has several.
static __device__ __attribute__((noinline)) float bentScore(float product, float slope, float distance, float cap,
                                                            float scale) {
  const float scaled = product * scale;
  return fmaf(slope, distance, cap > 0 ? cap * tanhf(scaled) : scaled);
}

// Weights are powers of two: exp2(weight * (score - largest score)). In the plain case the scores are q k^T as they
// come and `weight` holds everything; else score() makes them ready.
struct ScoreRule {
  bool plain;
  float weight;
  double inverseWeight;
  float scale;      // times log2(e)
  float cap;        // times log2(e); 0 = off
  float bentScale;  // scale / soft cap, without one `scale`

  // slope: of ALiBi, times log2(e), or 0. distance: key position - query position
  __device__ __forceinline__ float score(float product, float slope, int distance) const {
    if (plain) return product;
    return bentScore(product, slope, static_cast<float>(distance), cap, bentScale);
  }
};

inline ScoreRule scoreRule(const AttentionParams& params) {
  ScoreRule rule{};
  rule.plain =
      params.softCap == 0 && params.alibiSlopes == nullptr && params.distanceScores == nullptr && params.scale > 0;
  rule.weight = rule.plain ? params.scale * kLog2E : 1;
  rule.inverseWeight = 1 / static_cast<double>(rule.weight);
  rule.scale = params.scale * kLog2E;
  rule.cap = params.softCap * kLog2E;
  rule.bentScale = params.softCap > 0 ? params.scale / params.softCap : rule.scale;
  return rule;
}

// AttentionParams and StepView as kernels want them.
template <typename T>
struct AttentionArgs {
  int heads;
  int kvHeads;
  int group;  // query heads of a KV head
  int headDim;
  int paddedDim;  // of the cache
  int behind;     // tokens that a query sees before its own, where `chunk` is 0
  int chunk;
  uint32_t chunksInverse;  // 2^32 / chunk
  int ahead;               // and behind its own
  int rotaryHalf;
  bool rotaryInterleaved;
  int pageElements;  // of all heads
  ScoreRule rule;
  const float* alibiSlopes;
  const float* distanceScores;
  int64_t reach;
  const float* sinks;
  T* qkv;
  int64_t qkvStride;
  T* out;
  int64_t outStride;
  T* cache;
  StepView step;

  __device__ __forceinline__ const T* query(int row, int head) const {
    return qkv + row * qkvStride + static_cast<int64_t>(head) * headDim;
  }
  __device__ __forceinline__ const T* key(int row, int kvHead) const { return query(row, heads + kvHead); }
  __device__ __forceinline__ const T* value(int row, int kvHead) const { return query(row, heads + kvHeads + kvHead); }
  // Keys (kPage, paddedDim), then values (kPage, paddedDim).
  __device__ __forceinline__ T* page(int page, int kvHead) const {
    return cache + static_cast<int64_t>(page) * pageElements + kvHead * (2 * kPage * paddedDim);
  }
  // The first position that a query at `position` sees.
  __device__ __forceinline__ int firstVisible(int position) const {
    if (chunk <= 0) return max(0, position - behind);
    const auto quotient = static_cast<int>(__umulhi(static_cast<unsigned>(position), chunksInverse));  // or one less
    const int rest = position - quotient * chunk;
    return position - (rest >= chunk ? rest - chunk : rest);
  }
  // The last one, of a sequence of so many tokens.
  __device__ __forceinline__ int lastVisible(int position, int length) const {
    return min(length - 1 - position, ahead) + position;
  }
  __device__ __forceinline__ float slope(int head) const {
    return alibiSlopes != nullptr ? alibiSlopes[head] * kLog2E : 0.0f;
  }
  // The learned scores of distances of a head: element `distance`, which may be negative.
  __device__ __forceinline__ const float* distancesOf(int head) const {
    return distanceScores + (2 * head + 1) * reach;
  }
  // The sink's logit, as scores are: what the largest score begins with. Its weight is 1 then, else there is none yet.
  __device__ __forceinline__ float sink(int head) const {
    if (sinks == nullptr) return -INFINITY;
    return static_cast<float>(static_cast<double>(sinks[head] * kLog2E) * rule.inverseWeight);  // as in Share
  }
};

template <typename T>
AttentionArgs<T> attentionArgs(const AttentionParams& params, const StepView& step) {
  AttentionArgs<T> args{};
  args.heads = static_cast<int>(params.shape.heads);
  args.kvHeads = static_cast<int>(params.shape.kvHeads);
  args.group = args.heads / args.kvHeads;
  args.headDim = static_cast<int>(params.shape.headDim);
  args.paddedDim = static_cast<int>(attentionPadding(params.shape.headDim));
  args.behind = params.window > 0 ? params.window - 1 : std::numeric_limits<int>::max();
  args.chunk = params.window < 0 ? -params.window : 0;
  args.chunksInverse = args.chunk > 0 ? std::numeric_limits<uint32_t>::max() / static_cast<uint32_t>(args.chunk) : 0;
  args.ahead = params.ahead;
  args.rotaryHalf = params.rotaryHalf;
  args.rotaryInterleaved = params.rotaryLayout == RotaryLayout::kInterleaved;
  args.pageElements = args.kvHeads * 2 * kPage * args.paddedDim;
  args.rule = scoreRule(params);
  args.alibiSlopes = params.alibiSlopes;
  args.distanceScores = params.distanceScores;
  args.reach = params.reach;
  args.sinks = params.sinks;
  args.qkv = static_cast<T*>(params.qkv);
  args.qkvStride = params.qkvStride;
  args.out = static_cast<T*>(params.out);
  args.outStride = params.outStride;
  args.cache = static_cast<T*>(params.cache);
  args.step = step;
  return args;
}

// Two weights, at most 1, as an mma operand; not clamped, as fromFloat is.
template <typename T>
__device__ __forceinline__ uint32_t packWeights(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) return packHalves(low, high);
  return packBfloats(low, high);
}

// A row of a kernel's heads has at least so many elements, once padded: shorter ones have a narrower kernel.
template <int kDim>
constexpr int kLeastPaddedDim = kDim <= 32    ? 8
                                : kDim <= 128 ? kDim - 32 + 8
                                              : kDim - 64 + 8;

// Whether element `at` of a row is there, or padded; `end`: of the elements that any lane asks for at this place.
template <int kDim>
__device__ __forceinline__ bool isInRow(int at, int end, int paddedDim) {
  return end <= kLeastPaddedDim<kDim> || at < paddedDim;
}

// 1 / total, of a sum of weights: from 1 to a few millions, since the largest weight is 1. A division takes code for
// operands of any size, more than most of what divides here.
struct Share {
  double factor;  // within 2^-51

  __device__ __forceinline__ explicit Share(float total) {
    const auto wide = static_cast<double>(total);
    factor = reciprocalFast(total);
#pragma unroll
    for (int i = 0; i < 2; ++i) factor = fma(factor, fma(-wide, factor, 1.0), factor);
  }
  // value / total as it is rounded: a quotient of two floats lies further than this error, 2^-49 of itself, from where
  // rounding changes.
  __device__ __forceinline__ float of(float value) const {
    return static_cast<float>(static_cast<double>(value) * factor);
  }
};

// Calls body.template operator()<T, dim>() with the narrowest kernel that holds the heads.
template <typename T, typename Body>
void withHeadDim(int paddedDim, const Body& body) {
  if (paddedDim <= 32) return body.template operator()<T, 32>();
  if (paddedDim <= 64) return body.template operator()<T, 64>();
  if (paddedDim <= 96) return body.template operator()<T, 96>();
  if (paddedDim <= 128) return body.template operator()<T, 128>();
  if (paddedDim <= 192) return body.template operator()<T, 192>();
  return body.template operator()<T, 256>();
}

}  // namespace shardspeed::cuda
