#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/attention_sums.cuh"
#include "cuda/element.cuh"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

// How decode attention is cut into blocks, and how the sums of a sequence's stretches of pages are joined.

namespace shardspeed::cuda {

constexpr int kDecodeThreads = kDecodeWarps * 32;

// Stretches of so many visible pages. It never falls as they become more: a window leaves a row no more stretches than
// its items were made for. Stretches differ by one page at most.
__host__ __device__ constexpr int splitsOf(int pages, int mostSplits) {
  constexpr int kLeast = static_cast<int>(kLeastSplitPages);
  const int wanted = (pages + kLeast - 1) / kLeast;
  return wanted < mostSplits ? wanted : mostSplits;
}

inline int64_t subgroupsOf(const AttentionShape& shape) {
  const int64_t group = shape.heads / shape.kvHeads;
  return (group + kDecodeHeads - 1) / kDecodeHeads;
}

// Stretches of a sequence, at most: so many that one sequence alone keeps the multiprocessors of a large GPU busy.
inline int64_t mostSplitsOf(const AttentionShape& shape) {
  constexpr int64_t kWantedBlocks = 512, kLeastMost = 32;
  return std::clamp(kWantedBlocks / (shape.kvHeads * subgroupsOf(shape)), kLeastMost, kMostDecodeSplits);
}

// A slot of the workspace: the sums of one stretch. The counters are those of the sequence whose first one it is.
struct SplitSlot {
  size_t statsAt;  // float2 (heads): largest score, total weight
  size_t sumsAt;   // float (heads, paddedDim)
  size_t bytes;    // counters, uint32_t (kvHeads * subgroups), come first

  explicit SplitSlot(const AttentionShape& shape) {
    const auto padded = [](size_t size) { return (size + 15) / 16 * 16; };
    const auto heads = static_cast<size_t>(shape.heads);
    const auto counters = static_cast<size_t>(shape.kvHeads * subgroupsOf(shape));
    statsAt = padded(counters * sizeof(uint32_t));
    sumsAt = padded(statsAt + heads * sizeof(float2));
    bytes = sumsAt + heads * static_cast<size_t>(attentionPadding(shape.headDim)) * sizeof(float);
  }
};

template <typename T>
struct DecodeArgs {
  AttentionArgs<T> attention;
  const DecodeItem* items;
  unsigned char* workspace;
  SplitSlot layout;
  uint32_t slotBytes;
  int subgroups;
  int mostSplits;
  const unsigned char* next;  // what is fetched by the blocks behind those of the items
  int64_t nextBytes;
};

// What a block works on.
template <typename T>
struct DecodeBlock {
  int row;
  int position;
  int firstVisible;  // position
  int kvHead;
  int firstHead;
  int heads;  // <= kDecodeHeads
  int firstPage;
  int endPage;
  int split;
  int splits;    // of the sequence
  int slot;      // of its first one
  bool ownsRow;  // its stretch ends with the row's own position
  const int32_t* pages;

  __device__ __forceinline__ explicit DecodeBlock(const DecodeArgs<T>& args) {
    const AttentionArgs<T>& a = args.attention;
    const DecodeItem item = args.items[blockIdx.x];
    row = item.row;
    split = item.split;
    slot = item.slot;
    position = row < 0 ? -1 : a.step.positions[row];
    kvHead = blockIdx.y;
    const int firstOfGroup = blockIdx.z * kDecodeHeads;
    firstHead = kvHead * a.group + firstOfGroup;
    heads = min(kDecodeHeads, a.group - firstOfGroup);
    firstVisible = position < 0 ? 0 : a.firstVisible(position);
    const int firstVisiblePage = firstVisible / kPage;
    const int lastPage = position < 0 ? -1 : position / kPage;
    const int visible = lastPage + 1 - firstVisiblePage;
    splits = splitsOf(visible, args.mostSplits);
    const auto divisor = static_cast<uint32_t>(max(splits, 1));
    const uint32_t inverse = 0xffffffff / divisor;
    const auto pageOf = [&](int which) {
      const auto all = static_cast<uint32_t>(visible * which);
      const uint32_t pages = __umulhi(all, inverse);  // or one more
      return firstVisiblePage + static_cast<int>(all - pages * divisor >= divisor ? pages + 1 : pages);
    };
    firstPage = pageOf(split);
    endPage = pageOf(split + 1);
    ownsRow = split == splits - 1;
    pages = position < 0 ? nullptr : a.step.pages + a.step.pageOffsets[row];
  }
  __device__ __forceinline__ bool hasWork() const { return position >= 0 && split < splits; }
  // The workspace of one of the sequence's stretches.
  __device__ __forceinline__ unsigned char* slotOf(const DecodeArgs<T>& args, int which) const {
    return args.workspace + static_cast<uint64_t>(static_cast<uint32_t>(slot + which)) * args.slotBytes;
  }
};

template <typename T>
__device__ __forceinline__ void storeResult(const AttentionArgs<T>& args, int row, int head, int dimension,
                                            const float (&result)[4]) {
  T* out = args.out + row * args.outStride + static_cast<int64_t>(head) * args.headDim + dimension;
  union {
    uint2 bits;
    T values[4];
  } rounded;
  rounded.bits = uint2{pack2<T>(result[0], result[1]), pack2<T>(result[2], result[3])};
  if (args.headDim % 4 == 0) {
    if (dimension < args.headDim) *reinterpret_cast<uint2*>(out) = rounded.bits;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (dimension + i < args.headDim) out[i] = rounded.values[i];
}

// What the block's warps found of four elements of a head.
template <typename T, int kDim>
__device__ __forceinline__ void joinWarps(const DecodeShared<T, kDim>& shared, const HeadJoin& join, int head,
                                          int dimension, float (&sum)[4]) {
#pragma unroll
  for (int warp = 0; warp < kDecodeWarps; ++warp) {
    const int at = head * DecodeShared<T, kDim>::kSumStride + dimension;
    const float4 part = *reinterpret_cast<const float4*>(shared.warps[warp].sums + at);
    sum[0] = fmaf(part.x, join.factors[warp], sum[0]);
    sum[1] = fmaf(part.y, join.factors[warp], sum[1]);
    sum[2] = fmaf(part.z, join.factors[warp], sum[2]);
    sum[3] = fmaf(part.w, join.factors[warp], sum[3]);
  }
}

// What each of the sequence's stretches is multiplied by: (kDecodeHeads, kMostDecodeSplits), zeros behind the last.
// They take the place of the warps' sums, which have been stored.
template <typename T, int kDim>
__device__ __forceinline__ float* sharesOf(DecodeShared<T, kDim>& shared) {
  static_assert(sizeof shared.warps >= kDecodeHeads * kMostDecodeSplits * sizeof(float));
  return reinterpret_cast<float*>(shared.warps);
}

template <typename T, int kDim>
__device__ __forceinline__ void findShares(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                           DecodeShared<T, kDim>& shared) {
  constexpr int kMostSplits = static_cast<int>(kMostDecodeSplits), kRounds = kMostSplits / 32;
  const unsigned char* stats = block.slotOf(args, 0) + args.layout.statsAt;
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int head = threadIdx.x / 32; head < block.heads; head += kDecodeWarps) {
    float2 own[kRounds];
    float largest = -INFINITY, total = 0;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int split = lane + 32 * i;
      own[i] = float2{-INFINITY, 0};
      if (split < block.splits)
        own[i] = reinterpret_cast<const float2*>(stats + static_cast<uint64_t>(static_cast<uint32_t>(split)) *
                                                             args.slotBytes)[block.firstHead + head];
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) largest = fmaxf(largest, own[i].x);
    __syncwarp();
    largest = warpMax(largest);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      own[i].x = exp2Fast(own[i].x - largest);
      total = fmaf(own[i].y, own[i].x, total);
    }
    const float share = Share(warpSum(total)).of(1);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) sharesOf(shared)[head * kMostSplits + lane + 32 * i] = own[i].x * share;
  }
}

// Four elements of a head, of all stretches of the sequence in their order. Four loads are under way at once.
template <typename T, int kDim>
__device__ __forceinline__ void joinStretches(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                              DecodeShared<T, kDim>& shared, int head, int dimension,
                                              float (&result)[4]) {
  constexpr int kMostSplits = static_cast<int>(kMostDecodeSplits), kAtOnce = 4;
  const auto* sums =
      block.slotOf(args, 0) + args.layout.sumsAt +
      static_cast<size_t>((block.firstHead + head) * args.attention.paddedDim + dimension) * sizeof(float);
#pragma unroll 1
  for (int first = 0; first < block.splits; first += kAtOnce, sums += static_cast<uint64_t>(args.slotBytes) * kAtOnce) {
    float4 parts[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      parts[i] = float4{0, 0, 0, 0};
      if (first + i < block.splits)
        parts[i] = *reinterpret_cast<const float4*>(sums + static_cast<uint64_t>(args.slotBytes) * i);
    }
    const float4 shares = *reinterpret_cast<const float4*>(sharesOf(shared) + head * kMostSplits + first);
    const float factors[kAtOnce] = {shares.x, shares.y, shares.z, shares.w};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      result[0] = fmaf(parts[i].x, factors[i], result[0]);
      result[1] = fmaf(parts[i].y, factors[i], result[1]);
      result[2] = fmaf(parts[i].z, factors[i], result[2]);
      result[3] = fmaf(parts[i].w, factors[i], result[3]);
    }
  }
}

// The stretch's sums, of all warps: to the result where the sequence has one stretch, else to the workspace. Where
// `joins`, the results of all stretches.
template <typename T, int kDim>
__device__ __forceinline__ void finishHeads(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                            DecodeShared<T, kDim>& shared, bool joins) {
  const AttentionArgs<T>& a = args.attention;
  constexpr int kQuads = kDim / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < block.heads * kQuads; i += kDecodeThreads) {
    const int head = i / kQuads;
    const int dimension = i % kQuads * 4;
    if (dimension >= a.paddedDim) continue;
    float result[4] = {};
    if (joins) {
      joinStretches(args, block, shared, head, dimension, result);
    } else {
      const HeadJoin join(shared, head);
      joinWarps(shared, join, head, dimension, result);
      if (block.splits > 1) {
        unsigned char* workspace = block.slotOf(args, block.split);
        auto* sums = reinterpret_cast<float*>(workspace + args.layout.sumsAt);
        *reinterpret_cast<float4*>(sums + (block.firstHead + head) * a.paddedDim + dimension) =
            float4{result[0], result[1], result[2], result[3]};
        if (dimension == 0)
          reinterpret_cast<float2*>(workspace + args.layout.statsAt)[block.firstHead + head] =
              float2{join.largest, join.total};
        continue;
      }
      const Share share(join.total);
#pragma unroll
      for (float& value : result) value = share.of(value);
    }
    storeResult(a, block.row, block.firstHead + head, dimension, result);
  }
}

}  // namespace shardspeed::cuda
