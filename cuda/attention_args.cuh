#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "cuda/attention.h"
#include "cuda/element.cuh"

// What the attention kernels share: their arguments, where keys and values lie, and how scores become weights.

namespace shardspeed::cuda {

constexpr int kPage = static_cast<int>(kPageTokens);
constexpr float kLog2E = 1.44269504088896341f;

// Weights are powers of two: exp2(weight * (score - largest score)). In the plain case the scores are q k^T as they
// come and `weight` holds everything; else score() makes them ready.
struct ScoreRule {
  bool plain;
  float weight;
  float scale;     // times log2(e)
  float cap;       // times log2(e); 0 = off
  float capScale;  // scale / soft cap

  // slope: of ALiBi, times log2(e), or 0. distance: key position - query position
  __device__ __forceinline__ float score(float product, float slope, int distance) const {
    if (plain) return product;
    const float value = cap > 0 ? cap * tanhf(product * capScale) : product * scale;
    return fmaf(slope, static_cast<float>(distance), value);
  }
};

inline ScoreRule scoreRule(const AttentionParams& params) {
  ScoreRule rule{};
  rule.plain =
      params.softCap == 0 && params.alibiSlopes == nullptr && params.distanceScores == nullptr && params.scale > 0;
  rule.weight = rule.plain ? params.scale * kLog2E : 1;
  rule.scale = params.scale * kLog2E;
  rule.cap = params.softCap * kLog2E;
  rule.capScale = params.softCap > 0 ? params.scale / params.softCap : 0;
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
  int ahead;  // and behind its own
  int rotaryHalf;
  bool rotaryInterleaved;
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
    return cache + (static_cast<int64_t>(page) * kvHeads + kvHead) * (2 * kPage * paddedDim);
  }
  // The first position that a query at `position` sees.
  __device__ __forceinline__ int firstVisible(int position) const {
    return chunk > 0 ? position - position % chunk : max(0, position - behind);
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
    return sinks != nullptr ? sinks[head] * kLog2E / rule.weight : -INFINITY;
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
  args.ahead = params.ahead;
  args.rotaryHalf = params.rotaryHalf;
  args.rotaryInterleaved = params.rotaryLayout == RotaryLayout::kInterleaved;
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
  union {
    uint32_t bits;
    T values[2];
  } pair;
  if constexpr (std::is_same_v<T, __half>) {
    pair.values[0] = __float2half_rn(low);
    pair.values[1] = __float2half_rn(high);
  } else {
    pair.values[0] = __float2bfloat16_rn(low);
    pair.values[1] = __float2bfloat16_rn(high);
  }
  return pair.bits;
}

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
