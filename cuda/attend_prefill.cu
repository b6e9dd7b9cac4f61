#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Attention of prompts over the paged cache: FlashAttention-2 (Dao, 2023) on tensor cores. No score ever reaches
// memory; a tile of 64 query rows reads every key and value that it sees once.
//
// Grid (heads, tiles), 4 warps of 16 rows. Heads come first, so that the query heads of one KV head run at the same
// time and find its pages in the L2 cache; tiles run in the order of the list, which should have the longest first. A
// block walks over the keys in blocks of 64 (32 where heads are wide), cp.async bringing the next block while this one
// is computed: q in registers (in shared memory where heads are wide), keys by ldmatrix, values by its transposed form,
// online softmax in fp32 in the accumulators' own layout, weights rounded to T for the second product.
//
// Blocks of keys begin at multiples of their size from position 0, and a block that a row does not see leaves the row's
// sums as they are. So a row adds the same numbers in the same order however its prompt was cut.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kWarpRows = 16;
static_assert(kWarps * kWarpRows == kPrefillTileRows);

template <typename T, int kDim>
struct Shape {
  static constexpr bool kWide = kDim > 128;
  static constexpr int kKeys = kWide ? 32 : 64;  // of a block
  static constexpr int kPages = kKeys / kPage;   // of a block
  static constexpr int kChunks = kDim / 8;       // 16-byte pieces of a row
  static constexpr int kSteps = kDim / 16;
};

template <typename T, int kDim>
struct alignas(128) PrefillShared {
  using S = Shape<T, kDim>;
  T stages[2][2][S::kKeys * kDim];  // keys, values
  T wideQueries[S::kWide ? kPrefillTileRows * kDim : 8];

  // Narrow q goes to registers before the second stage is needed.
  __device__ __forceinline__ T* queries() { return S::kWide ? wideQueries : stages[1][0]; }
  // The results, when all keys are done with.
  __device__ __forceinline__ T* results() { return stages[0][0]; }
};

// Where a 16-byte piece of a row lies, so that the 8 rows that ldmatrix reads together meet no bank twice.
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

// Copies blocks of keys and values to shared memory: a warp a page, or half of it (keys or values) where blocks are of
// two pages. What no row of the tile sees is zero: a weight of zero times whatever lies in the cache could be NaN.
template <typename T, int kDim>
struct BlockCopy {
  using S = Shape<T, kDim>;
  static constexpr int kLanesOfRow = S::kChunks % 8 == 0 ? 8 : 4;
  static constexpr int kRows = 32 / kLanesOfRow;  // at once
  static constexpr int kHalves = S::kPages == kWarps ? 2 : 1;

  const AttentionArgs<T>& args;
  const Tile& tile;
  int kvHead;

  __device__ __forceinline__ int page() const { return static_cast<int>(threadIdx.x) / 32 % S::kPages; }
  __device__ __forceinline__ int firstHalf() const { return static_cast<int>(threadIdx.x) / 32 / S::kPages; }

  // The page that this warp has to copy of a block; to be asked for early.
  __device__ __forceinline__ int idOf(int block) const {
    const int token = block * S::kKeys + page() * kPage;
    return token <= tile.last && token + kPage > tile.first ? tile.pages[token / kPage] : 0;
  }

  __device__ __forceinline__ void start(int block, int id, T (&stage)[2][S::kKeys * kDim]) const {
    const int lane = threadIdx.x % 32;
    const T* from = args.page(id, kvHead);
    const int firstToken = block * S::kKeys + page() * kPage;
#pragma unroll
    for (int half = firstHalf(); half < firstHalf() + kHalves; ++half) {
#pragma unroll
      for (int row = 0; row < kPage; row += kRows) {
        const int slot = row + lane / kLanesOfRow;
        const int token = firstToken + slot;
        const bool seen = token >= tile.first && token <= tile.last;
        const T* source = from + (half * kPage + slot) * args.paddedDim;
#pragma unroll
        for (int chunk = 0; chunk < S::kChunks; chunk += kLanesOfRow) {
          const int own = chunk + lane % kLanesOfRow;
          const bool valid = seen && own * 8 < args.paddedDim;
          cpAsync16(stage[half] + swizzled<kDim>(page() * kPage + slot, own), valid ? source + own * 8 : from, valid);
        }
      }
    }
    cpAsyncCommit();
  }
};

// The warp's 16 rows of q into shared memory, zeros where there is none. Ends with a committed group of copies.
template <typename T, int kDim>
__device__ __forceinline__ void loadQueries(const AttentionArgs<T>& args, const Tile& tile, int head, T* queries) {
  using S = Shape<T, kDim>;
  const int lane = threadIdx.x % 32;
  const int firstRow = threadIdx.x / 32 * kWarpRows;
  if (args.headDim % 8 == 0) {
    for (int i = lane; i < kWarpRows * S::kChunks; i += 32) {
      const int row = firstRow + i / S::kChunks;
      const int chunk = i % S::kChunks;
      const bool valid = row < tile.rows && chunk * 8 < args.headDim;
      const T* from = args.query(tile.firstRow + (row < tile.rows ? row : 0), head);
      cpAsync16(queries + swizzled<kDim>(row, chunk), valid ? from + chunk * 8 : from, valid);
    }
  } else {
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

  __device__ __forceinline__ void score(const T* shared, const T* keys, float (&scores)[kScoreTiles][4]) {
    const int lane = threadIdx.x % 32;
    const int row = lane / 16 * 8 + lane % 8;
#pragma unroll
    for (auto& tile : scores)
#pragma unroll
      for (float& value : tile) value = 0;
#pragma unroll
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

  // Makes scores ready and hides those of keys that a row does not see. position: of the warp's first row
  __device__ __forceinline__ static void finishScores(const AttentionArgs<T>& args, int firstKey, int position,
                                                      int length, float slope, const float* distances,
                                                      float (&scores)[kScoreTiles][4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int own = position + lane / 4 + 8 * r;
      const int firstVisible = args.firstVisible(own);
      const int lastVisible = args.lastVisible(own, length);
#pragma unroll
      for (int tile = 0; tile < kScoreTiles; ++tile)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int key = firstKey + tile * 8 + lane % 4 * 2 + i;
          float& score = scores[tile][2 * r + i];
          const bool visible = key >= firstVisible && key <= lastVisible;
          score = visible ? args.rule.score(score, slope, key - own) : -INFINITY;
          if constexpr (!S::kWide)
            if (distances != nullptr && visible) score = fmaf(distances[key - own], kLog2E, score);
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
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = total[r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float share = 1 / sum;
#pragma unroll
      for (int i = 0; i < kSumTiles; ++i)
        *reinterpret_cast<uint32_t*>(results + swizzled<kDim>(firstRow + lane / 4 + 8 * r, i) + lane % 4 * 2) =
            pack2<T>(sums[i][2 * r] * share, sums[i][2 * r + 1] * share);
    }
    __syncwarp();
    T* out = args.out + tile.firstRow * args.outStride + static_cast<int64_t>(head) * args.headDim;
    const int rows = min(kWarpRows, tile.rows - firstRow);
    if (args.headDim % 8 == 0) {
      for (int i = lane; i < rows * S::kChunks; i += 32) {
        const int row = firstRow + i / S::kChunks;
        const int chunk = i % S::kChunks;
        if (chunk * 8 < args.headDim)
          *reinterpret_cast<uint4*>(out + row * args.outStride + chunk * 8) =
              *reinterpret_cast<const uint4*>(results + swizzled<kDim>(row, chunk));
      }
      return;
    }
    for (int i = lane; i < rows * kDim; i += 32) {
      const int row = firstRow + i / kDim;
      const int j = i % kDim;
      if (j < args.headDim) out[row * args.outStride + j] = results[swizzled<kDim>(row, j / 8) + j % 8];
    }
  }
};

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads) prefillKernel(AttentionArgs<T> args, const RowTile* tiles) {
  using S = Shape<T, kDim>;
  auto& shared = sharedMemory<PrefillShared<T, kDim>>();
  // What describes the step was copied to the device before its first kernel, so it may be read ahead of the wait.
  const Tile tile(args, tiles[blockIdx.y]);
  const int head = blockIdx.x;
  const int warpRow = threadIdx.x / 32 * kWarpRows;
  const int position = tile.position + warpRow;  // of the warp's first row
  const BlockCopy<T, kDim> copy{args, tile, head / args.group};
  const int firstBlock = tile.first / S::kKeys;
  const int lastBlock = tile.last / S::kKeys;
  const int firstId = copy.idOf(firstBlock);
  int nextId = copy.idOf(firstBlock + 1);
  const float slope = args.slope(head);
  const float* distances = args.distanceScores != nullptr ? args.distancesOf(head) : nullptr;
  const float sink = args.sink(head);
  pdlWait();
  pdlTrigger();

  loadQueries<T, kDim>(args, tile, head, shared.queries());
  copy.start(firstBlock, firstId, shared.stages[0]);
  WarpRows<T, kDim> rows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.largest[r] = sink;
    rows.total[r] = sink > -INFINITY && threadIdx.x % 4 == 0 ? 1 : 0;
  }
  cpAsyncWait<1>();
  __syncwarp();
  if constexpr (!S::kWide) {
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) rows.loadQuery(shared.queries(), step, rows.queries[step]);
  }
  for (int block = firstBlock; block <= lastBlock; ++block) {
    cpAsyncWait<0>();
    __syncthreads();  // the block is there, and nobody reads the other stage any more
    auto& stage = shared.stages[(block - firstBlock) % 2];
    if (block < lastBlock) copy.start(block + 1, nextId, shared.stages[(block - firstBlock + 1) % 2]);
    nextId = copy.idOf(block + 2);
    const int firstKey = block * S::kKeys;
    const int lastKey = firstKey + S::kKeys - 1;
    const int lastPosition = position + kWarpRows - 1;
    if (warpRow >= tile.rows || firstKey > args.lastVisible(lastPosition, tile.length) ||
        lastKey < args.firstVisible(position))
      continue;
    float scores[WarpRows<T, kDim>::kScoreTiles][4];
    rows.score(shared.queries(), stage[0], scores);
    if (!args.rule.plain || lastKey > args.lastVisible(position, tile.length) ||
        firstKey < args.firstVisible(lastPosition))
      rows.finishScores(args, firstKey, position, tile.length, slope, distances, scores);
    rows.weigh(args.rule.weight, scores);
    rows.accumulate(stage[1], scores);
  }
  __syncthreads();
  if (warpRow < tile.rows) rows.store(args, tile, head, shared.results());
}

template <typename T>
void prefill(const AttentionParams& params, const StepView& step, const RowTile* tiles, int64_t tileCount,
             cudaStream_t stream) {
  const AttentionArgs<T> args = attentionArgs<T>(params, step);
  const dim3 grid(static_cast<unsigned>(args.heads), static_cast<unsigned>(tileCount));
  withHeadDim<T>(args.paddedDim, [&]<typename Element, int kDim>() {
    launch(prefillKernel<Element, kDim>,
           {"attention of prompts", grid, dim3(kThreads), sizeof(PrefillShared<Element, kDim>), stream}, args, tiles);
  });
}

}  // namespace

void attendPrefill(const AttentionParams& params, const StepView& step, const RowTile* tiles, int64_t tileCount,
                   cudaStream_t stream) {
  if (tileCount == 0) return;
  if (params.dtype == DType::kF16)
    prefill<__half>(params, step, tiles, tileCount, stream);
  else
    prefill<__nv_bfloat16>(params, step, tiles, tileCount, stream);
}

}  // namespace shardspeed::cuda
