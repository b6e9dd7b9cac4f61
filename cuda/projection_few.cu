#include <cuda_runtime.h>

#include "cuda/launch.cuh"
#include "cuda/norm.cuh"
#include "cuda/projection.cuh"
#include "cuda/projection_paths.h"

// Products of 1 ... 64 tokens: decode steps. Their time is that of reading the weights once, so everything serves to
// have many loads of weights under way, always.
//
// A block is 8 warps and computes kGroupRows = 32 weight rows for all tokens, then goes on to another group. Warp w has
// segment w of the columns of these rows. Weights go from memory to registers, kDepth blocks of 32 columns ahead (2 KB
// a warp each), past the cache, beginning before the kernels ahead of this one are done; the last of a group already
// fetch the first of the next. The sums of the segments meet in shared memory.
//
// Tokens: where `in` is the fp32 residual stream, each block normalises its 1 ... 8 rows into shared memory, which
// saves a launch and a round trip. Else a lane copies what it will multiply, T (8 columns), to a place of its own in
// shared memory kDepth blocks ahead: a longer reach than registers allow, and no barrier since no one else reads it.

namespace shardspeed::cuda {

namespace {

constexpr int kWarps = kSegments;
constexpr int kThreads = 32 * kWarps;
constexpr int kGroupRows = 32;
constexpr int kTileTokens = 8;
constexpr int kTileRows = 16;
constexpr int kRowTiles = kGroupRows / kTileRows;
// A row of tokens ends in an odd number of blocks, so that two rows of one block lie in different banks.
constexpr int kRowEnd = kBlockColumns;
// Likewise for the sums of a token: lanes write (2 t, g) and read four neighbours.
constexpr int kSumStride = kGroupRows + 4;
// What the smallest of the supported devices give a block.
constexpr size_t kMostShared = 99 << 10;

static_assert(kThreads == kNormThreads);

// What the registers of a multiprocessor are shared out for: the sums of many tokens take too many for two.
constexpr int residentBlocks(int tiles) {
  return tiles > 6 ? 1 : 2;
}

// Sums of one tile of 8 tokens, (segment, token, weight row).
struct SegmentSums {
  float values[kSegments][kTileTokens][kSumStride];
};

// Two of them, so that one barrier is enough: while a tile is finished the next may be written.
struct Meeting {
  SegmentSums sums[2];
  NormShared norm;
};

// Adds the segments up and writes what comes out. The two warps that do it change from tile to tile.
template <typename T>
__device__ __forceinline__ void finishTile(const Product& product, const SegmentSums& sums, int group, int firstToken,
                                           int turn) {
  constexpr int kWorkers = kGroupRows / kQuad * kTileTokens;
  const int worker = (static_cast<int>(threadIdx.x) + kThreads - turn * kWorkers % kThreads) % kThreads;
  const bool gated = product.finish.gated;
  const int quads = quadsOf(kGroupRows, gated);
  const int token = worker / quads;
  if (token >= kTileTokens || firstToken + token >= product.tokens) return;
  const int row = rowOfQuad(worker % quads, gated);
  float values[kQuad] = {}, ups[kQuad] = {};
#pragma unroll
  for (int segment = 0; segment < kSegments; ++segment) {
    const float* from = sums.values[segment][token] + row;
    const float4 read = *reinterpret_cast<const float4*>(from);
    values[0] = __fadd_rn(values[0], read.x);
    values[1] = __fadd_rn(values[1], read.y);
    values[2] = __fadd_rn(values[2], read.z);
    values[3] = __fadd_rn(values[3], read.w);
    if (!gated) continue;
    const float4 up = *reinterpret_cast<const float4*>(from + kGateBlock);
    ups[0] = __fadd_rn(ups[0], up.x);
    ups[1] = __fadd_rn(ups[1], up.y);
    ups[2] = __fadd_rn(ups[2], up.z);
    ups[3] = __fadd_rn(ups[3], up.w);
  }
  finishQuad<T>(product.finish, firstToken + token, group * kGroupRows + row, values, ups);
}

// What this lane multiplies of a block of columns: rows g, g + 8, g + 16 and g + 24 of the group.
template <typename T>
__device__ __forceinline__ void loadWeights(uint4 (&to)[2 * kRowTiles], const T* from, int64_t stride) {
#pragma unroll
  for (int i = 0; i < 2 * kRowTiles; ++i) to[i] = loadStream16(from + i * 8 * stride);
}

// The tokens of one block of columns, kTiles tiles of 8 rows, as lanes read them. base: this lane's columns of row 0 of
// the segment.
template <typename T, int kTiles>
__device__ __forceinline__ void fetchTokens(uint4 (*to)[32], const T* base, int64_t stride, int tokens) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int row = tile * kTileTokens + lane / 4;
    const bool valid = row < tokens;
    cpAsync16(&to[tile][lane], base + (valid ? row : 0) * stride, valid);
  }
}

// rows (tokens, rowStride) in shared memory = norm(in)
template <typename T>
__device__ __forceinline__ void normalizeTokens(const Product& product, int cols, const RowNorm& norm,
                                                NormShared& shared, T* rows, int rowStride) {
  const auto put = [&](int row, int col, const float(&values)[4]) {
    const uint2 packed = make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
    *reinterpret_cast<uint2*>(rows + row * rowStride + col) = packed;
  };
  const auto* in = static_cast<const float*>(product.in);
  const int paddedCols = product.blocks * kBlockColumns;
  if (product.tokens == 1)
    normalize<1>(in, 0, 1, cols, paddedCols, norm, shared, put);
  else
    normalize<4>(in, product.inStride, product.tokens, cols, paddedCols, norm, shared, put);
  __syncthreads();
}

template <int kTiles>
using Sums = float[kRowTiles][kTiles][4];

// The sums of one tile of tokens, of this warp's segment.
template <int kTiles>
__device__ __forceinline__ void storeSums(SegmentSums& to, const Sums<kTiles>& sums, int tile) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    if (t != tile) continue;  // registers have no index
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        to.values[warp][tokenOfElement(lane, e)][i * kTileRows + rowOfElement(lane, e)] = sums[i][t][e];
    }
  }
}

template <typename T, int kTiles, int kDepth, bool kFused>
__global__ void __launch_bounds__(kThreads, residentBlocks(kTiles))
    fewTokensKernel(Product product, int cols, RowNorm norm) {
  static_assert(!kFused || kTiles == 1);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = segmentStart(product.blocks, warp);
  const int count = segmentStart(product.blocks, warp + 1) - first;
  const int groups = (product.weightRows + kGroupRows - 1) / kGroupRows;
  const int paddedCols = product.blocks * kBlockColumns;
  const int laneColumn = first * kBlockColumns + 8 * (lane % 4);
  const T* weight = static_cast<const T*>(product.weight) + static_cast<int64_t>(lane / 4) * paddedCols + laneColumn;
  const int64_t groupStride = static_cast<int64_t>(kGroupRows) * paddedCols;

  int group = blockIdx.x;
  uint4 weights[kDepth][2 * kRowTiles];
#pragma unroll
  for (int slot = 0; slot < kDepth; ++slot)
    if (slot < count) loadWeights(weights[slot], weight + group * groupStride + slot * kBlockColumns, paddedCols);

  unsigned char* shared = &sharedMemory<unsigned char>();
  Meeting& meeting = *reinterpret_cast<Meeting*>(shared);
  T* rows = reinterpret_cast<T*>(shared + sizeof(Meeting));                       // (tokens, rowStride), fused
  auto* ring = reinterpret_cast<uint4(*)[kTiles][32]>(shared + sizeof(Meeting));  // (warps * kDepth), else
  ring += warp * kDepth;
  const int rowStride = paddedCols + kRowEnd;
  const T* tokens = static_cast<const T*>(product.in) + laneColumn;

  pdlWait();
  if (kFused) {
    normalizeTokens(product, cols, norm, meeting.norm, rows, rowStride);
  } else {
#pragma unroll
    for (int slot = 0; slot < kDepth; ++slot) {
      if (slot < count)
        fetchTokens<T, kTiles>(ring[slot], tokens + slot * kBlockColumns, product.inStride, product.tokens);
      cpAsyncCommit();
    }
  }

  int turn = 0;
  for (; group < groups; group += gridDim.x) {
    const bool another = group + static_cast<int>(gridDim.x) < groups;
    const T* here = weight + group * groupStride;
    const T* ahead = here + gridDim.x * groupStride;
    Sums<kTiles> sums = {};
    for (int step = 0; step < count; step += kDepth) {
      // The slots of the last step already fetch for the next group.
      const bool last = step + kDepth >= count;
#pragma unroll
      for (int slot = 0; slot < kDepth; ++slot) {
        const int block = step + slot;
        if (!kFused) cpAsyncWait<kDepth - 1>();
        if (block < count) {
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            uint4 fragment = make_uint4(0, 0, 0, 0);
            if (!kFused)
              fragment = ring[slot][tile][lane];
            else if (lane / 4 < product.tokens)
              fragment =
                  *reinterpret_cast<const uint4*>(rows + lane / 4 * rowStride + laneColumn + block * kBlockColumns);
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i)
              multiplyBlock<T>(sums[i][tile], weights[slot][2 * i], weights[slot][2 * i + 1], fragment);
          }
        }
        const int next = last ? slot : block + kDepth;
        if (next < count && (!last || another)) {
          loadWeights(weights[slot], (last ? ahead : here) + next * kBlockColumns, paddedCols);
          if (!kFused)
            fetchTokens<T, kTiles>(ring[slot], tokens + next * kBlockColumns, product.inStride, product.tokens);
        }
        if (!kFused) cpAsyncCommit();
      }
    }
    if (!another) pdlTrigger();

#pragma unroll 1
    for (int tile = 0; tile < kTiles && tile * kTileTokens < product.tokens; ++tile, ++turn) {
      SegmentSums& meet = meeting.sums[turn % 2];
      storeSums<kTiles>(meet, sums, tile);
      __syncthreads();
      finishTile<T>(product, meet, group, tile * kTileTokens, turn);
    }
  }
}

template <typename T, int kTiles, int kDepth, bool kFused>
void launchFew(const Product& product, int64_t cols, const NormParams* norm, cudaStream_t stream) {
  size_t shared = sizeof(Meeting);
  if (kFused)
    shared += static_cast<size_t>(product.tokens) * (product.blocks * kBlockColumns + kRowEnd) * sizeof(T);
  else
    shared += static_cast<size_t>(kWarps) * kDepth * kTiles * 32 * sizeof(uint4);
  // As many blocks as run at once, all with as many groups to do. A block takes a kilobyte of shared memory besides.
  const int groups = (product.weightRows + kGroupRows - 1) / kGroupRows;
  const int fitting = static_cast<int>(deviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / (shared + 1024));
  const int room = std::clamp(fitting, 1, residentBlocks(kTiles)) * multiprocessors();
  const int rounds = (groups + room - 1) / room;
  const int blocks = (groups + rounds - 1) / rounds;
  const LaunchConfig config{"project", dim3(static_cast<unsigned>(blocks)), dim3(kThreads), shared, stream};
  launch(fewTokensKernel<T, kTiles, kDepth, kFused>, config, product, cols, RowNorm(norm));
}

template <typename T>
void launchFew(const Product& product, bool fused, const NormParams* norm, int64_t cols, cudaStream_t stream) {
  if (fused) return launchFew<T, 1, 4, true>(product, cols, norm, stream);
  const int tiles = (product.tokens + kTileTokens - 1) / kTileTokens;
  if (tiles <= 1) return launchFew<T, 1, 4, false>(product, cols, nullptr, stream);
  if (tiles <= 2) return launchFew<T, 2, 4, false>(product, cols, nullptr, stream);
  if (tiles <= 4) return launchFew<T, 4, 2, false>(product, cols, nullptr, stream);
  if (tiles <= 6) return launchFew<T, 6, 2, false>(product, cols, nullptr, stream);
  return launchFew<T, 8, 2, false>(product, cols, nullptr, stream);
}

}  // namespace

bool canNormalizeFew(int64_t tokens, int64_t inFeatures) {
  const auto rowBytes = static_cast<size_t>((padTo(inFeatures, kColumnStep) + kRowEnd) * 2);
  return tokens <= kMostNormRows && sizeof(Meeting) + static_cast<size_t>(tokens) * rowBytes <= kMostShared;
}

void projectFew(DType dtype, const Product& product, bool fused, const NormParams* norm, int64_t inFeatures,
                cudaStream_t stream) {
  if (dtype == DType::kF16)
    launchFew<__half>(product, fused, norm, inFeatures, stream);
  else
    launchFew<__nv_bfloat16>(product, fused, norm, inFeatures, stream);
}

}  // namespace shardspeed::cuda
