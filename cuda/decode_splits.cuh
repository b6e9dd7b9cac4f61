#pragma once

#include <cuda_runtime.h>

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
constexpr int kLeastPages = 8;  // of a stretch, but the last

// Pages of a stretch, where the sequence has so many visible ones.
__host__ __device__ constexpr int pagesOfSplit(int pages) {
  const int even = (pages + kDecodeSplits - 1) / kDecodeSplits;
  return even > kLeastPages ? even : kLeastPages;
}

inline int64_t subgroupsOf(const AttentionShape& shape) {
  const int64_t group = shape.heads / shape.kvHeads;
  return (group + kDecodeHeads - 1) / kDecodeHeads;
}

// A row's part of the workspace, the same whatever the number of rows: a call of more rows finds its counters zero.
struct RowWorkspace {
  size_t statsAt;  // float2 (heads, kDecodeSplits): largest score, total weight
  size_t sumsAt;   // float (heads, kDecodeSplits, paddedDim)
  size_t bytes;    // counters, uint32_t (kvHeads * subgroups), come first

  explicit RowWorkspace(const AttentionShape& shape) {
    const auto heads = static_cast<size_t>(shape.heads);
    const auto counters = static_cast<size_t>(shape.kvHeads * subgroupsOf(shape));
    statsAt = (counters * sizeof(uint32_t) + 15) / 16 * 16;
    sumsAt = statsAt + heads * kDecodeSplits * sizeof(float2);
    bytes = sumsAt + heads * kDecodeSplits * static_cast<size_t>(attentionPadding(shape.headDim)) * sizeof(float);
  }
};

template <typename T>
struct DecodeArgs {
  AttentionArgs<T> attention;
  const int32_t* rows;
  unsigned char* workspace;
  RowWorkspace layout;
  int subgroups;
  int rowCount;
  const unsigned char* next;  // what is fetched by the blocks behind those of the rows
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
  int splits;    // of the sequence
  bool ownsRow;  // its stretch ends with the row's own position
  const int32_t* pages;

  __device__ __forceinline__ explicit DecodeBlock(const DecodeArgs<T>& args) {
    const AttentionArgs<T>& a = args.attention;
    row = args.rows[blockIdx.z];
    position = row < 0 ? -1 : a.step.positions[row];
    kvHead = blockIdx.y / args.subgroups;
    const int firstOfGroup = blockIdx.y % args.subgroups * kDecodeHeads;
    firstHead = kvHead * a.group + firstOfGroup;
    heads = min(kDecodeHeads, a.group - firstOfGroup);
    firstVisible = position < 0 ? 0 : a.firstVisible(position);
    const int firstVisiblePage = firstVisible / kPage;
    const int lastPage = position < 0 ? -1 : position / kPage;
    const int stretch = pagesOfSplit(lastPage + 1 - firstVisiblePage);
    splits = (lastPage + 1 - firstVisiblePage + stretch - 1) / stretch;
    firstPage = firstVisiblePage + static_cast<int>(blockIdx.x) * stretch;
    endPage = min(firstPage + stretch, lastPage + 1);
    ownsRow = static_cast<int>(blockIdx.x) == splits - 1;
    pages = position < 0 ? nullptr : a.step.pages + a.step.pageOffsets[row];
  }
  __device__ __forceinline__ bool hasWork() const { return static_cast<int>(blockIdx.x) < splits; }
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
                                           const DecodeShared<T, kDim>& shared, unsigned char* workspace) {
  const AttentionArgs<T>& a = args.attention;
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
    const int split = (block.firstHead + head) * kDecodeSplits + static_cast<int>(blockIdx.x);
    *reinterpret_cast<float4*>(sums + static_cast<int64_t>(split) * a.paddedDim + dimension) =
        float4{sum[0], sum[1], sum[2], sum[3]};
    if (dimension == 0) stats[split] = float2{join.largest, join.total};
  }
}

// All stretches of the sequence, in their order, by the block that was last.
template <typename T, int kDim>
__device__ __forceinline__ void joinSplits(const DecodeArgs<T>& args, const DecodeBlock<T>& block,
                                           DecodeShared<T, kDim>& shared, const unsigned char* workspace) {
  const AttentionArgs<T>& a = args.attention;
  const auto* stats = reinterpret_cast<const float2*>(workspace + args.layout.statsAt);
  const auto* sums = reinterpret_cast<const float*>(workspace + args.layout.sumsAt);
  const int lane = threadIdx.x % 32;
  static_assert(kDecodeSplits == 32, "a lane a stretch");
#pragma unroll 1
  for (int head = threadIdx.x / 32; head < block.heads; head += kDecodeWarps) {
    float2 own{-INFINITY, 0};
    if (lane < block.splits) own = stats[(block.firstHead + head) * kDecodeSplits + lane];
    const float factor = exp2Fast(own.x - warpMax(own.x));
    shared.shares[head][lane] = factor / warpSum(own.y * factor);
  }
  __syncthreads();
  constexpr int kQuads = kDim / 4;
#pragma unroll 1
  for (int i = threadIdx.x; i < block.heads * kQuads; i += kDecodeThreads) {
    const int head = i / kQuads;
    const int dimension = i % kQuads * 4;
    if (dimension >= a.paddedDim) continue;
    const float* from = sums + static_cast<int64_t>(block.firstHead + head) * kDecodeSplits * a.paddedDim + dimension;
    float result[4] = {};
#pragma unroll 4
    for (int split = 0; split < block.splits; ++split) {
      const float4 part = *reinterpret_cast<const float4*>(from + split * a.paddedDim);
      const float share = shared.shares[head][split];
      result[0] = fmaf(part.x, share, result[0]);
      result[1] = fmaf(part.y, share, result[1]);
      result[2] = fmaf(part.z, share, result[2]);
      result[3] = fmaf(part.w, share, result[3]);
    }
    storeResult(a, block.row, block.firstHead + head, dimension, result);
  }
}

}  // namespace shardspeed::cuda
