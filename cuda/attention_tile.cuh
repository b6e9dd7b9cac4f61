#pragma once

#include <cuda_runtime.h>

#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/ptx.cuh"

// What a block of attention of prompts (cuda/attend_prefill.cu) is made of: its tile of rows, the copies of keys and
// values to shared memory, and what a warp computes of its rows.

namespace shardspeed::cuda {

constexpr int kPrefillThreads = 128;
constexpr int kPrefillWarps = kPrefillThreads / 32;
constexpr int kWarpRows = 16;
static_assert(kPrefillWarps * kWarpRows == kPrefillTileRows);
constexpr int kLeastStages = 2, kMostStages = 3;  // of the ring of blocks of keys and values

template <typename T, int kDim>
struct Shape {
  static constexpr bool kWide = kDim > 128;
  static constexpr int kKeys = kWide ? 32 : 64;  // of a block
  static constexpr int kChunks = kDim / 8;       // 16-byte pieces of a row
  static constexpr int kSteps = kDim / 16;
};

// A block of keys and values.
template <typename T, int kDim>
using Stage = T[2][Shape<T, kDim>::kKeys * kDim];

template <typename T, int kDim>
struct alignas(128) PrefillShared {
  T queries[kPrefillTileRows * kDim];
  Stage<T, kDim> stages[1];  // so many as the launch has room for

  // The results, when all keys are done with.
  __device__ __forceinline__ T* results() { return queries; }
};

template <typename T, int kDim>
constexpr size_t sharedBytes(int stages) {
  return sizeof(T) * kPrefillTileRows * kDim + sizeof(Stage<T, kDim>) * static_cast<size_t>(stages);
}

// The place of a 16-byte piece of a row. ldmatrix reads 8 rows together, which meet no bank twice this way.
template <int kDim>
__device__ __forceinline__ int swizzled(int row, int chunk) {
  constexpr int kChunks = kDim / 8;
  static_assert(kChunks % 4 == 0);
  return (row * kChunks + (chunk ^ (kChunks % 8 == 0 ? row & 7 : row >> 1 & 3))) * 8;
}

// Consecutive rows of a sequence, and what they see.
struct Tile {
  int firstRow;
  int rows;
  int position;  // of the first row
  int first;     // position that any of them sees
  int last;
  int length;  // of the sequence
  const int32_t* pages;

  template <typename T>
  __device__ __forceinline__ Tile(const AttentionArgs<T>& args, const RowTile& tile)
      : firstRow(tile.firstRow), rows(tile.rowCount), position(args.step.positions[tile.firstRow]) {
    length = args.step.lengths[firstRow];
    first = args.firstVisible(position);
    last = args.lastVisible(position + rows - 1, length);
    pages = args.step.pages + args.step.pageOffsets[firstRow];
  }
};

// Copies blocks of keys and values to shared memory, a warp some tokens of one page. What no row of the tile sees is
// zero: a weight of zero times whatever lies in the cache could be NaN.
template <typename T, int kDim>
struct BlockCopy {
  using S = Shape<T, kDim>;
  static constexpr int kWarpTokens = S::kKeys / kPrefillWarps;
  static constexpr int kLanesOfRow = S::kChunks % 8 == 0 ? 8 : 4;
  static constexpr int kRows = 32 / kLanesOfRow;  // at once

  const AttentionArgs<T>& args;
  const Tile& tile;
  int kvHead;

  // This warp's first token of a block.
  __device__ __forceinline__ static int firstToken(int block) {
    return block * S::kKeys + static_cast<int>(threadIdx.x) / 32 * kWarpTokens;
  }
  // The page that this warp has to copy of a block; to be asked for early.
  __device__ __forceinline__ int idOf(int block) const {
    const int token = firstToken(block);
    return token <= tile.last && token + kWarpTokens > tile.first ? tile.pages[token / kPage] : 0;
  }

  // Keys, then values, a group of copies each; empty ones where there is no such block.
  __device__ __forceinline__ void start(int block, int id, Stage<T, kDim>& stage) const {
    const int lane = threadIdx.x % 32;
    const int slot = firstToken(block) % S::kKeys + lane / kLanesOfRow;  // this lane's first
    const int column = lane % kLanesOfRow * 8;
    const T* from = args.page(id, kvHead) + slot % kPage * args.paddedDim + column;
#pragma unroll 1
    for (int half = 0; half < 2; ++half, from += kPage * args.paddedDim) {
#pragma unroll
      for (int row = 0; row < kWarpTokens; row += kRows) {
        const int token = block * S::kKeys + slot + row;
        const bool seen = token >= tile.first && token <= tile.last;
#pragma unroll
        for (int chunk = 0; chunk < S::kChunks; chunk += kLanesOfRow) {
          const int first = chunk * 8, end = (chunk + kLanesOfRow) * 8;
          const bool valid = seen && (end <= kLeastPaddedDim<kDim> || first + column < args.paddedDim);
          cpAsync16(stage[half] + swizzled<kDim>(slot + row, chunk + lane % kLanesOfRow),
                    from + row * args.paddedDim + first, valid);
        }
      }
      cpAsyncCommit();
    }
  }
};

// The warp's 16 rows of q into shared memory, zeros where there is none. Ends with a committed group of copies.
template <typename T, int kDim>
__device__ __forceinline__ void loadQueries(const AttentionArgs<T>& args, const Tile& tile, int head, T* queries) {
  using S = Shape<T, kDim>;
  const int lane = threadIdx.x % 32;
  const int firstRow = threadIdx.x / 32 * kWarpRows;
  if (args.headDim % 8 == 0) {
#pragma unroll 1
    for (int i = lane; i < kWarpRows * S::kChunks; i += 32) {
      const int row = firstRow + i / S::kChunks;
      const int chunk = i % S::kChunks;
      const bool valid = row < tile.rows && chunk * 8 < args.headDim;
      const T* from = args.query(tile.firstRow + (row < tile.rows ? row : 0), head);
      cpAsync16(queries + swizzled<kDim>(row, chunk), from + chunk * 8, valid);
    }
  } else {
#pragma unroll 1
    for (int i = lane; i < kWarpRows * kDim; i += 32) {
      const int row = firstRow + i / kDim;
      const int j = i % kDim;
      const bool valid = row < tile.rows && j < args.headDim;
      queries[swizzled<kDim>(row, j / 8) + j % 8] = valid ? args.query(tile.firstRow + row, head)[j] : fromFloat<T>(0);
    }
  }
  cpAsyncCommit();
}

// A warp's 16 rows. Lane (g, t) = (lane / 4, lane % 4) holds rows g and g + 8, of every 8 keys or dimensions the two
// from 2 t on: the layout of mma's accumulators.
template <typename T, int kDim>
struct WarpRows {
  using S = Shape<T, kDim>;
  static constexpr int kScoreTiles = S::kKeys / 8;
  static constexpr int kSumTiles = kDim / 8;

  uint32_t queries[S::kWide ? 1 : S::kSteps][4];
  float sums[kSumTiles][4] = {};
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  // of this lane's keys

  __device__ __forceinline__ static void loadQuery(const T* shared, int step, uint32_t (&query)[4]) {
    const int lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 * kWarpRows + lane % 16;
    ldmatrixX4(query, shared + swizzled<kDim>(row, 2 * step + lane / 16));
  }
  __device__ __forceinline__ void loadQueries(const T* shared) {
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) loadQuery(shared, step, queries[step]);
  }

  __device__ __forceinline__ void score(const T* shared, const T* keys, float (&scores)[kScoreTiles][4]) {
    const int lane = threadIdx.x % 32;
    const int row = lane / 16 * 8 + lane % 8;
#pragma unroll
    for (auto& tile : scores)
#pragma unroll
      for (float& value : tile) value = 0;
#pragma unroll(S::kWide ? S::kSteps / 2 : S::kSteps)
    for (int step = 0; step < S::kSteps; ++step) {
      if constexpr (S::kWide) loadQuery(shared, step, queries[0]);
      const auto& query = queries[S::kWide ? 0 : step];
#pragma unroll
      for (int pair = 0; pair < kScoreTiles / 2; ++pair) {
        uint32_t key[4];
        ldmatrixX4(key, keys + swizzled<kDim>(pair * 16 + row, 2 * step + lane / 8 % 2));
        mma16816<T>(scores[2 * pair], query, {key[0], key[1]});
        mma16816<T>(scores[2 * pair + 1], query, {key[2], key[3]});
      }
    }
  }

  // Makes scores ready and hides those of keys that a row does not see. position: of the warp's first row. Eight keys
  // at a time, which then go to the end: most blocks need none of it, and code for all scores would be half of the
  // kernel.
  __device__ __forceinline__ static void finishScores(const AttentionArgs<T>& args, int firstKey, int position,
                                                      int length, float slope, const float* distances,
                                                      float (&scores)[kScoreTiles][4]) {
    const int lane = threadIdx.x % 32;
    const int row = position + lane / 4;
    int key = firstKey + lane % 4 * 2;
    const int firstVisible[2] = {args.firstVisible(row), args.firstVisible(row + 8)};
    const int lastVisible[2] = {args.lastVisible(row, length), args.lastVisible(row + 8, length)};
#pragma unroll 1
    for (int tile = 0; tile < kScoreTiles; ++tile, key += 8) {
      float finished[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int own = key + i % 2, distance = own - (row + i / 2 * 8);
        const bool visible = own >= firstVisible[i / 2] && own <= lastVisible[i / 2];
        finished[i] = visible ? args.rule.score(scores[0][i], slope, distance) : -INFINITY;
        if constexpr (!S::kWide)
          if (distances != nullptr && visible) finished[i] = fmaf(distances[distance], kLog2E, finished[i]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int t = 0; t + 1 < kScoreTiles; ++t) scores[t][i] = scores[t + 1][i];
        scores[kScoreTiles - 1][i] = finished[i];
      }
    }
  }

  // Scores become weights; earlier sums are scaled to the new largest score.
  __device__ __forceinline__ void weigh(float weight, float (&scores)[kScoreTiles][4]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float high = largest[r];
#pragma unroll
      for (auto& tile : scores) high = fmaxf(high, fmaxf(tile[2 * r], tile[2 * r + 1]));
      high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
      high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
      // A row that has not seen a key yet: all weights must come out as zero, not as NaN.
      const float safe = high == -INFINITY ? 0 : high;
      const float base = safe * weight;
      const float factor = exp2Fast((largest[r] - safe) * weight);  // 1 where the block changed nothing
      largest[r] = high;
      float sum = 0;
#pragma unroll
      for (auto& tile : scores) {
        tile[2 * r] = exp2Fast(fmaf(tile[2 * r], weight, -base));
        tile[2 * r + 1] = exp2Fast(fmaf(tile[2 * r + 1], weight, -base));
        sum += tile[2 * r] + tile[2 * r + 1];
      }
      total[r] = fmaf(total[r], factor, sum);
#pragma unroll
      for (auto& tile : sums) {
        tile[2 * r] *= factor;
        tile[2 * r + 1] *= factor;
      }
    }
  }

  __device__ __forceinline__ void accumulate(const T* values, const float (&weights)[kScoreTiles][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int step = 0; step < S::kKeys / 16; ++step) {
      const auto& even = weights[2 * step];
      const auto& odd = weights[2 * step + 1];
      const uint32_t operand[4] = {packWeights<T>(even[0], even[1]), packWeights<T>(even[2], even[3]),
                                   packWeights<T>(odd[0], odd[1]), packWeights<T>(odd[2], odd[3])};
#pragma unroll
      for (int pair = 0; pair < kSumTiles / 2; ++pair) {
        uint32_t value[4];
        ldmatrixX4Transposed(value, values + swizzled<kDim>(step * 16 + lane % 16, 2 * pair + lane / 16));
        mma16816<T>(sums[2 * pair], operand, {value[0], value[1]});
        mma16816<T>(sums[2 * pair + 1], operand, {value[2], value[3]});
      }
    }
  }

  // By way of shared memory (the warp's own rows of it), so that rows leave in whole 16-byte pieces.
  __device__ __forceinline__ void store(const AttentionArgs<T>& args, const Tile& tile, int head, T* results) {
    const int lane = threadIdx.x % 32;
    const int firstRow = threadIdx.x / 32 * kWarpRows;
    float factors[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = total[r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      factors[r] = Share(sum).of(1);
    }
    constexpr int kAtOnce = 2;
    static_assert(kSumTiles % kAtOnce == 0);
#pragma unroll 1
    for (int first = 0; first < kSumTiles; first += kAtOnce) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
#pragma unroll
        for (int r = 0; r < 2; ++r)
          *reinterpret_cast<uint32_t*>(results + swizzled<kDim>(firstRow + lane / 4 + 8 * r, first + i) +
                                       lane % 4 * 2) =
              pack2<T>(sums[i][2 * r] * factors[r], sums[i][2 * r + 1] * factors[r]);
          // The next ones to the front: registers have no index.
#pragma unroll
      for (int i = 0; i + kAtOnce < kSumTiles; ++i)
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][e] = sums[i + kAtOnce][e];
    }
    __syncwarp();
    T* out = args.out + tile.firstRow * args.outStride + static_cast<int64_t>(head) * args.headDim;
    const int rows = min(kWarpRows, tile.rows - firstRow);
    if (args.headDim % 8 == 0) {
#pragma unroll 1
      for (int i = lane; i < rows * S::kChunks; i += 32) {
        const int row = firstRow + i / S::kChunks;
        const int chunk = i % S::kChunks;
        if (chunk * 8 < args.headDim)
          *reinterpret_cast<uint4*>(out + row * args.outStride + chunk * 8) =
              *reinterpret_cast<const uint4*>(results + swizzled<kDim>(row, chunk));
      }
      return;
    }
#pragma unroll 1
    for (int i = lane; i < rows * kDim; i += 32) {
      const int row = firstRow + i / kDim;
      const int j = i % kDim;
      if (j < args.headDim) out[row * args.outStride + j] = results[swizzled<kDim>(row, j / 8) + j % 8];
    }
  }
};

}  // namespace shardspeed::cuda
