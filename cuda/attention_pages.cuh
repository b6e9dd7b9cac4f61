#pragma once

#include <cuda_runtime.h>

#include "cuda/attention_args.cuh"
#include "cuda/ptx.cuh"

// One page of 16 tokens, as decode wants it: in 16-byte pieces that become mma operands as they are, by choosing which
// lane holds which element instead of moving elements between lanes. Neither sum cares: a score adds over the
// dimensions in any order, as long as q has the same one, and the dimensions of the result may be any permutation of
// the mma's rows. Pieces go through shared memory only to be under way while others are computed: each lane copies what
// it will read itself, so no barrier is needed. With g = lane / 4 and t = lane % 4:

namespace shardspeed::cuda {

// Tokens that may be read: [first, end) of the page. What lies outside counts as zero.
struct PageRange {
  int first;
  int end;
  __device__ __forceinline__ bool has(int token) const { return token >= first && token < end; }
};

// The pieces of half a page, keys or values, of each lane.
template <int kDim>
using PagePieces = uint4[kDim / 16][32];

// Keys as the B operand (dimension, token): dimensions 32 b + 8 t ... + 7 of tokens g and g + 8, which serve two mma of
// 16 dimensions each.
template <typename T, int kDim>
struct KeyPage {
  static constexpr int kBlocks = kDim / 32;
  uint4 words[2][kBlocks];

  __device__ __forceinline__ static void copy(PagePieces<kDim>& to, const T* page, int paddedDim, PageRange range) {
    const int lane = threadIdx.x % 32;
    const int t = lane % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int token = lane / 4 + 8 * n;
      const T* from = page + token * paddedDim + 8 * t;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        cpAsync16(&to[n * kBlocks + b][lane], from + 32 * b, range.has(token) && 32 * b + 8 * t < paddedDim);
    }
  }

  // What this lane copied.
  __device__ __forceinline__ explicit KeyPage(const PagePieces<kDim>& from) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) words[n][b] = from[n * kBlocks + b][lane];
  }

  // The token's key (kDim) comes from shared memory instead.
  __device__ __forceinline__ void put(const T* key, int token) {
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 2; ++n)
      if (g + 8 * n == token) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) words[n][b] = *reinterpret_cast<const uint4*>(key + 32 * b + 8 * t);
      }
  }

  // products[n][0 ... 1] = query g times the keys of tokens 8 n + 2 t and the next. queries: shared, (8, stride)
  __device__ __forceinline__ void multiply(const T* queries, int stride, float (&products)[2][4]) const {
    const T* query = queries + threadIdx.x % 32 / 4 * stride + threadIdx.x % 4 * 8;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) products[n][i] = 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const uint4 q = *reinterpret_cast<const uint4*>(query + 32 * b);
      const uint32_t early[4] = {q.x, 0, q.y, 0};  // only 8 of the 16 rows are queries
      const uint32_t late[4] = {q.z, 0, q.w, 0};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        mma16816<T>(products[n], early, {words[n][b].x, words[n][b].y});
        mma16816<T>(products[n], late, {words[n][b].z, words[n][b].w});
      }
    }
  }
};

// Values transposed, as the A operand (dimension, token): dimensions 64 b + 8 g ... + 7 of tokens 2 t, 2 t + 1, 2 t + 8
// and 2 t + 9. A last block of 32 dimensions is 32 ... + 4 g ... + 3.
template <typename T, int kDim>
struct ValuePage {
  static constexpr int kBlocks = kDim / 64;
  static constexpr bool kHasHalf = kDim % 64 != 0;
  static constexpr int kTiles = kDim / 16;  // mma of 16 dimensions
  uint4 words[4][kBlocks > 0 ? kBlocks : 1];
  uint2 half[4];

  __device__ __forceinline__ static int tokenOf(int i) { return threadIdx.x % 4 * 2 + i % 2 + i / 2 * 8; }

  __device__ __forceinline__ static void copy(PagePieces<kDim>& to, const T* page, int paddedDim, PageRange range) {
    const int lane = threadIdx.x % 32;
    const int g = lane / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool has = range.has(tokenOf(i));
      const T* from = page + tokenOf(i) * paddedDim;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        cpAsync16(&to[i * kBlocks + b][lane], from + 64 * b + 8 * g, has && 64 * b + 8 * g < paddedDim);
      if constexpr (kHasHalf) {
        const int dimension = 64 * kBlocks + 4 * g;
        cpAsync8(&halvesOf(to)[i * 32 + lane], from + dimension, has && dimension < paddedDim);
      }
    }
  }

  // What this lane copied.
  __device__ __forceinline__ explicit ValuePage(const PagePieces<kDim>& from) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) words[i][b] = from[i * kBlocks + b][lane];
      if constexpr (kHasHalf) half[i] = halvesOf(from)[i * 32 + lane];
    }
  }

  __device__ __forceinline__ void put(const T* value, int token) {
    const int g = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (tokenOf(i) == token) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) words[i][b] = *reinterpret_cast<const uint4*>(value + 64 * b + 8 * g);
        if constexpr (kHasHalf) half[i] = *reinterpret_cast<const uint2*>(value + 64 * kBlocks + 4 * g);
      }
  }

  // sums += values^T weights; weights: the B operand (token, head). Tile i of sums holds the dimensions of word i % 4
  // of block i / 4 (in the half block of word i % 2): sums[i][0], [1] are its first dimension of heads 2 t and 2 t + 1,
  // [2], [3] its second.
  __device__ __forceinline__ void accumulate(const uint32_t (&weights)[2], float (&sums)[kTiles][4]) const {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      addPair(words[0][b].x, words[1][b].x, words[2][b].x, words[3][b].x, weights, sums[4 * b]);
      addPair(words[0][b].y, words[1][b].y, words[2][b].y, words[3][b].y, weights, sums[4 * b + 1]);
      addPair(words[0][b].z, words[1][b].z, words[2][b].z, words[3][b].z, weights, sums[4 * b + 2]);
      addPair(words[0][b].w, words[1][b].w, words[2][b].w, words[3][b].w, weights, sums[4 * b + 3]);
    }
    if constexpr (kHasHalf) {
      addPair(half[0].x, half[1].x, half[2].x, half[3].x, weights, sums[4 * kBlocks]);
      addPair(half[0].y, half[1].y, half[2].y, half[3].y, weights, sums[4 * kBlocks + 1]);
    }
  }

 private:
  // (4, 32), behind the whole blocks.
  __device__ __forceinline__ static uint2* halvesOf(PagePieces<kDim>& pieces) {
    return reinterpret_cast<uint2*>(pieces[4 * kBlocks]);
  }
  __device__ __forceinline__ static const uint2* halvesOf(const PagePieces<kDim>& pieces) {
    return reinterpret_cast<const uint2*>(pieces[4 * kBlocks]);
  }
  // Two dimensions of four tokens: each token's pair becomes each dimension's pairs.
  __device__ __forceinline__ static void addPair(uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                                                 const uint32_t (&weights)[2], float (&sum)[4]) {
    const uint32_t operand[4] = {(a & 0xffff) | b << 16, a >> 16 | (b & 0xffff0000), (c & 0xffff) | d << 16,
                                 c >> 16 | (d & 0xffff0000)};
    mma16816<T>(sum, operand, weights);
  }
};

}  // namespace shardspeed::cuda
