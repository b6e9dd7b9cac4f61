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

  // Bytes from a page's first key to what this lane copies of its first token.
  __device__ __forceinline__ static uint32_t laneOffset(uint32_t rowBytes) {
    const uint32_t lane = threadIdx.x % 32;
    return lane / 4 * rowBytes + lane % 4 * 16;
  }
  // from: the page's keys and the lane's offset; kAtOnce: tokens whose copies are unrolled.
  template <int kAtOnce = 2>
  __device__ __forceinline__ static void copy(PagePieces<kDim>& to, const unsigned char* from, uint32_t rowBytes,
                                              PageRange range) {
    const int lane = threadIdx.x % 32;
    const int paddedDim = static_cast<int>(rowBytes / sizeof(T));
#pragma unroll kAtOnce
    for (uint32_t n = 0; n < 2; ++n) {
      const unsigned char* token = from + static_cast<uint64_t>(rowBytes) * (8 * n);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        cpAsync16(&to[n * kBlocks + b][lane], token + 64 * b,
                  range.has(lane / 4 + 8 * static_cast<int>(n)) &&
                      isInRow<kDim>(32 * b + 8 * (lane % 4), 32 * b + 32, paddedDim));
    }
  }

  // The token's key (kDim) comes from shared memory instead: the lanes that would have copied it put it where they
  // would have.
  __device__ __forceinline__ static void put(PagePieces<kDim>& to, const T* key, int token) {
    const int lane = threadIdx.x % 32;
    if (lane / 4 != token % 8) return;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b)
      to[token / 8 * kBlocks + b][lane] = *reinterpret_cast<const uint4*>(key + 32 * b + 8 * (lane % 4));
  }

  // products[n][0 ... 1] = query g times the keys of tokens 8 n + 2 t and the next. queries: shared, (8, stride)
  __device__ __forceinline__ static void multiply(const PagePieces<kDim>& keys, const T* queries, int stride,
                                                  float (&products)[2][4]) {
    const int lane = threadIdx.x % 32;
    const T* query = queries + threadIdx.x % 32 / 4 * stride + threadIdx.x % 4 * 8;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) products[n][i] = 0;
#pragma unroll(kBlocks > 4 ? kBlocks / 2 : kBlocks)
    for (int b = 0; b < kBlocks; ++b) {
      const uint4 q = *reinterpret_cast<const uint4*>(query + 32 * b);
      const uint32_t early[4] = {q.x, 0, q.y, 0};  // only 8 of the 16 rows are queries
      const uint32_t late[4] = {q.z, 0, q.w, 0};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const uint4 key = keys[n * kBlocks + b][lane];
        mma16816<T>(products[n], early, {key.x, key.y});
        mma16816<T>(products[n], late, {key.z, key.w});
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

  __device__ __forceinline__ static int tokenOf(int i) { return threadIdx.x % 4 * 2 + i % 2 + i / 2 * 8; }

  __device__ __forceinline__ static uint32_t laneOffset(uint32_t rowBytes) {
    const uint32_t lane = threadIdx.x % 32;
    return lane % 4 * 2 * rowBytes + lane / 4 * 16;
  }
  // As of keys.
  template <int kAtOnce = 4>
  __device__ __forceinline__ static void copy(PagePieces<kDim>& to, const unsigned char* from, uint32_t rowBytes,
                                              PageRange range) {
    const int lane = threadIdx.x % 32;
    const int g = lane / 4;
    const int paddedDim = static_cast<int>(rowBytes / sizeof(T));
#pragma unroll kAtOnce
    for (uint32_t i = 0; i < 4; ++i) {
      const bool has = range.has(tokenOf(static_cast<int>(i)));
      const unsigned char* token = from + static_cast<uint64_t>(rowBytes) * (i % 2 + i / 2 * 8);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b)
        cpAsync16(&to[i * kBlocks + b][lane], token + 128 * b,
                  has && isInRow<kDim>(64 * b + 8 * g, 64 * b + 64, paddedDim));
      if constexpr (kHasHalf)
        cpAsync8(&halvesOf(to)[i * 32 + lane], token + 128 * kBlocks - 8 * g, has && 64 * kBlocks + 4 * g < paddedDim);
    }
  }

  __device__ __forceinline__ static void put(PagePieces<kDim>& to, const T* value, int token) {
    const int lane = threadIdx.x % 32;
    const int i = token % 2 + token / 8 * 2;
    if (lane % 4 != token % 8 / 2) return;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b)
      to[i * kBlocks + b][lane] = *reinterpret_cast<const uint4*>(value + 64 * b + lane / 4 * 8);
    if constexpr (kHasHalf)
      halvesOf(to)[i * 32 + lane] = *reinterpret_cast<const uint2*>(value + 64 * kBlocks + lane / 4 * 4);
  }

  // sums += values^T weights; weights: the B operand (token, head). Tile i of sums holds the dimensions of word i % 4
  // of block i / 4 (in the half block of word i % 2): sums[i][0], [1] are its first dimension of heads 2 t and 2 t + 1,
  // [2], [3] its second.
  __device__ __forceinline__ static void accumulate(const PagePieces<kDim>& values, const uint32_t (&weights)[2],
                                                    float (&sums)[kTiles][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      uint4 words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = values[i * kBlocks + b][lane];
      addPair(words[0].x, words[1].x, words[2].x, words[3].x, weights, sums[4 * b]);
      addPair(words[0].y, words[1].y, words[2].y, words[3].y, weights, sums[4 * b + 1]);
      addPair(words[0].z, words[1].z, words[2].z, words[3].z, weights, sums[4 * b + 2]);
      addPair(words[0].w, words[1].w, words[2].w, words[3].w, weights, sums[4 * b + 3]);
    }
    if constexpr (kHasHalf) {
      uint2 half[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) half[i] = halvesOf(values)[i * 32 + lane];
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
    const uint32_t operand[4] = {lowHalves(a, b), highHalves(a, b), lowHalves(c, d), highHalves(c, d)};
    mma16816<T>(sum, operand, weights);
  }
};

}  // namespace shardspeed::cuda
