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
    kvHead = blockIdx.y / args.subgroups;
    const int firstOfGroup = blockIdx.y % args.subgroups * kDecodeHeads;
    firstHead = kvHead * a.group + firstOfGroup;
    heads = min(kDecodeHeads, a.group - firstOfGroup);
    firstVisible = position < 0 ? 0 : a.firstVisible(position);
    const int firstVisiblePage = firstVisible / kPage;
    const int lastPage = position < 0 ? -1 : position / kPage;
    const int visible = lastPage + 1 - firstVisiblePage;
    splits = splitsOf(visible, args.mostSplits);
    firstPage = splits > 0 ? firstVisiblePage + visible * split / splits : 0;
    endPage = splits > 0 ? firstVisiblePage + visible * (split + 1) / splits : 0;
    ownsRow = split == splits - 1;
    pages = position < 0 ? nullptr : a.step.pages + a.step.pageOffsets[row];
  }
  __device__ __forceinline__ bool hasWork() const { return position >= 0 && split < splits; }
  // The workspace of one of the sequence's stretches.
  __device__ __forceinline__ unsigned char* slotOf(const DecodeArgs<T>& args, int which) const {
    return args.workspace + static_cast<size_t>(slot + which) * args.layout.bytes;
  }
};

template <typename T>
__device__ __forceinline__ void storeResult(const AttentionArgs<T>& args, int row, int head, int dimension,
                                            const float (&result)[4]) {
  T* out = args.out + row * args.outStride + static_cast<int64_t>(head) * args.headDim + dimension;
  if (args.headDim % 4 == 0) {
    if (dimension < args.headDim)
      *reinterpret_cast<uint2*>(out) = uint2{pack2<T>(result[0], result[1]), pack2<T>(result[2], result[3])};
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (dimension + i < args.headDim) out[i] = fromFloat<T>(result[i]);
}

// The stretch's sums, of all warps: to the result where the sequence has one stretch, else to the workspace.
template <typename T, int kDim>
__device__ __forceinline__ void storeSplit(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                           const DecodeShared<T, kDim>& shared) {
  const AttentionArgs<T>& a = args.attention;
  unsigned char* workspace = block.slotOf(args, block.split);
  auto* stats = reinterpret_cast<float2*>(workspace + args.layout.statsAt);
  auto* sums = reinterpret_cast<float*>(workspace + args.layout.sumsAt);
  constexpr int kQuads = kDim / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < block.heads * kQuads; i += kDecodeThreads) {
    const int head = i / kQuads;
    const int dimension = i % kQuads * 4;
    if (dimension >= a.paddedDim) continue;
    const HeadJoin join(shared, head);
    const int at = head * DecodeShared<T, kDim>::kSumStride + dimension;
    float sum[4] = {};
#pragma unroll
    for (int warp = 0; warp < kDecodeWarps; ++warp) {
      const float4 part = *reinterpret_cast<const float4*>(shared.warps[warp].sums + at);
      sum[0] = fmaf(part.x, join.factors[warp], sum[0]);
      sum[1] = fmaf(part.y, join.factors[warp], sum[1]);
      sum[2] = fmaf(part.z, join.factors[warp], sum[2]);
      sum[3] = fmaf(part.w, join.factors[warp], sum[3]);
    }
    if (block.splits == 1) {
      const float result[4] = {sum[0] / join.total, sum[1] / join.total, sum[2] / join.total, sum[3] / join.total};
      storeResult(a, block.row, block.firstHead + head, dimension, result);
      continue;
    }
    *reinterpret_cast<float4*>(sums + (block.firstHead + head) * a.paddedDim + dimension) =
        float4{sum[0], sum[1], sum[2], sum[3]};
    if (dimension == 0) stats[block.firstHead + head] = float2{join.largest, join.total};
  }
}

// All stretches of the sequence, in their order, by the block that was last.
template <typename T, int kDim>
__device__ __forceinline__ void joinSplits(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                           DecodeShared<T, kDim>& shared) {
  constexpr int kMostSplits = static_cast<int>(kMostDecodeSplits);
  const AttentionArgs<T>& a = args.attention;
  const unsigned char* stats = block.slotOf(args, 0) + args.layout.statsAt;
  const unsigned char* sums = block.slotOf(args, 0) + args.layout.sumsAt;
  const int lane = threadIdx.x % 32;
  // (kDecodeHeads, kMostSplits), where the warps' sums were: these have been stored.
  auto* shares = reinterpret_cast<float*>(shared.warps);
  static_assert(sizeof shared.warps >= kDecodeHeads * kMostSplits * sizeof(float));
#pragma unroll 1
  for (int head = threadIdx.x / 32; head < block.heads; head += kDecodeWarps) {
    const auto statOf = [&](int split) {
      return reinterpret_cast<const float2*>(stats +
                                             static_cast<size_t>(split) * args.layout.bytes)[block.firstHead + head];
    };
    // Four rounds at most: not worth the code that unrolling makes.
    float largest = -INFINITY, total = 0;
#pragma unroll 1
    for (int split = lane; split < block.splits; split += 32) largest = fmaxf(largest, statOf(split).x);
    largest = warpMax(largest);
#pragma unroll 1
    for (int split = lane; split < block.splits; split += 32) {
      const float2 own = statOf(split);
      const float factor = exp2Fast(own.x - largest);
      shares[head * kMostSplits + split] = factor;
      total = fmaf(own.y, factor, total);
    }
    const float share = 1 / warpSum(total);
#pragma unroll 1
    for (int split = lane; split < block.splits; split += 32) shares[head * kMostSplits + split] *= share;
  }
  __syncthreads();
  constexpr int kQuads = kDim / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < block.heads * kQuads; i += kDecodeThreads) {
    const int head = i / kQuads;
    const int dimension = i % kQuads * 4;
    if (dimension >= a.paddedDim) continue;
    const size_t at = static_cast<size_t>((block.firstHead + head) * a.paddedDim + dimension) * sizeof(float);
    float result[4] = {};
#pragma unroll 4
    for (int split = 0; split < block.splits; ++split) {
      const float4 part = *reinterpret_cast<const float4*>(sums + static_cast<size_t>(split) * args.layout.bytes + at);
      const float share = shares[head * kMostSplits + split];
      result[0] = fmaf(part.x, share, result[0]);
      result[1] = fmaf(part.y, share, result[1]);
      result[2] = fmaf(part.z, share, result[2]);
      result[3] = fmaf(part.w, share, result[3]);
    }
    storeResult(a, block.row, block.firstHead + head, dimension, result);
  }
}

}  // namespace shardspeed::cuda
