#include <cuda_runtime.h>

#include "cuda/launch.cuh"
#include "cuda/projection.cuh"
#include "cuda/projection_paths.h"
#include "cuda/projection_tile.cuh"

// Products of many tokens: prompts. Their time is that of the tensor cores, so weights and tokens are read once a tile
// and used as often as registers allow.
//
// A block of 8 warps computes a tile of weight rows and tokens over all columns. Steps of 64 columns of both come by
// cp.async through a ring in shared memory, the weights of the first steps before the kernels ahead of this one are
// done. In shared memory a step is two planes of (rows, 32 columns), 64 bytes a row: eight lanes read their 16 bytes
// from two rows that lie behind one another, all banks once. A warp keeps the sums of the segment at hand and the total
// of those before it. The tile leaves through shared memory, so that what is written lies together.
//
// Consecutive blocks have the same weights and up to kBand tiles of tokens: the tiles under way share what is in L2.

namespace shardspeed::cuda {

namespace {

constexpr int kBand = 16;

// Within the 99 KB of shared memory that every supported device gives a block.
using LargeTile = TileShape<128, 128, 64, 32, 3>;
using SmallTile = TileShape<64, 64, 32, 16, 3>;
constexpr int kThreads = LargeTile::kThreads;
static_assert(SmallTile::kThreads == kThreads);
static_assert(LargeTile::kShared <= 99 << 10 && SmallTile::kShared <= 99 << 10);

// Copies (kRowCount rows, kStepColumns) to the two planes at `to`, thread by thread 16 bytes of every 32nd row. from:
// the thread's 16 bytes of row 0; rows from `rows` on become zeros.
template <typename T, int kRowCount, int kPlane>
__device__ __forceinline__ void copyRows(T* to, const T* from, int64_t stride, int rows) {
  constexpr int kRowsAtOnce = kThreads * 8 / kStepColumns;
  const int row = threadIdx.x / 8, chunk = threadIdx.x % 8;
  to += chunk / 4 * kPlane + row * kBlockColumns + chunk % 4 * 8;
#pragma unroll
  for (int i = 0; i < kRowCount; i += kRowsAtOnce) {
    const bool valid = row + i < rows;
    cpAsync16(to + i * kBlockColumns, valid ? from + i * stride : from - row * stride, valid);
  }
}

// total += sums, sums = 0: the end of a segment.
template <typename Shape>
__device__ __forceinline__ void endSegment(Sums<Shape>& total, Sums<Shape>& sums) {
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < Shape::kTokenTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        total[i][j][e] = __fadd_rn(total[i][j][e], sums[i][j][e]);
        sums[i][j][e] = 0;
      }
    }
  }
}

// The totals of all warps meet in `meet`, (tokens, rows), and go out.
template <typename T, typename Shape>
__device__ __forceinline__ void finishTile(const Product& product, const Sums<Shape>& total, float* meet, int firstRow,
                                           int firstToken, int warpRow, int warpToken) {
  storeTile<Shape>(total, meet, warpRow, warpToken);
  __syncthreads();
  const bool gated = product.finish.gated;
  const int quads = quadsOf(Shape::kRows, gated);
#pragma unroll 1
  for (int quad = threadIdx.x; quad < quads * Shape::kTokens; quad += kThreads) {
    const int token = quad / quads, row = rowOfQuad(quad % quads, gated);
    if (firstToken + token >= product.tokens) break;
    const float* from = meet + token * Shape::kSumStride + row;
    const float4 read = *reinterpret_cast<const float4*>(from);
    float values[kQuad] = {read.x, read.y, read.z, read.w}, ups[kQuad] = {};
    if (gated) {
      const float4 up = *reinterpret_cast<const float4*>(from + kGateBlock);
      ups[0] = up.x, ups[1] = up.y, ups[2] = up.z, ups[3] = up.w;
    }
    finishQuad<T>(product.finish, firstToken + token, firstRow + row, values, ups);
  }
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(kThreads) manyTokensKernel(Product product) {
  const int firstToken = (blockIdx.z * kBand + blockIdx.x) * Shape::kTokens;
  const int firstRow = blockIdx.y * Shape::kRows;
  if (firstToken >= product.tokens) {  // the last band may be short
    pdlWait();
    return;
  }
  const int columns = product.blocks * kBlockColumns;
  const int steps = product.blocks / kPlanes;
  const int rowsLeft = product.paddedRows - firstRow;
  const int tokensLeft = product.tokens - firstToken;
  const int threadRow = threadIdx.x / 8, threadColumn = threadIdx.x % 8 * 8;
  const T* weight =
      static_cast<const T*>(product.weight) + static_cast<int64_t>(firstRow + threadRow) * columns + threadColumn;
  const T* tokens = static_cast<const T*>(product.in) +
                    static_cast<int64_t>(firstToken + threadRow) * product.inStride + threadColumn;

  T* ring = &sharedMemory<T>();
  const auto copyWeights = [&](int step) {
    copyRows<T, Shape::kRows, Shape::kPlane>(ring + step % Shape::kStages * Shape::kStage, weight + step * kStepColumns,
                                             columns, rowsLeft);
  };
  const auto copyTokens = [&](int step) {
    copyRows<T, Shape::kTokens, Shape::kPlane>(
        ring + step % Shape::kStages * Shape::kStage + Shape::kRows * kBlockColumns, tokens + step * kStepColumns,
        product.inStride, tokensLeft);
  };
#pragma unroll
  for (int step = 0; step < Shape::kStages - 1; ++step)
    if (step < steps) copyWeights(step);
  pdlWait();
  pdlTrigger();
#pragma unroll
  for (int step = 0; step < Shape::kStages - 1; ++step) {
    if (step < steps) copyTokens(step);
    cpAsyncCommit();
  }

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int kWarpsDown = Shape::kRows / Shape::kWarpRows;
  const int warpRow = warp % kWarpsDown * Shape::kWarpRows, warpToken = warp / kWarpsDown * Shape::kWarpTokens;
  const int laneOffset = lane / 4 * kBlockColumns + lane % 4 * 8;
  Sums<Shape> total = {}, sums = {};
  int segment = 1, segmentEnd = segmentStart(product.blocks, segment);
  for (int step = 0; step < steps; ++step) {
    cpAsyncWait<Shape::kStages - 2>();
    __syncthreads();
    const int next = step + Shape::kStages - 1;
    if (next < steps) {
      copyWeights(next);
      copyTokens(next);
    }
    cpAsyncCommit();
    const T* stage = ring + step % Shape::kStages * Shape::kStage + laneOffset;
#pragma unroll
    for (int plane = 0; plane < kPlanes; ++plane) {
      const T* rows = stage + plane * Shape::kPlane + warpRow * kBlockColumns;
      multiplyPlane<T, Shape>(sums, rows, stage + plane * Shape::kPlane + (Shape::kRows + warpToken) * kBlockColumns);
      if (step * kPlanes + plane + 1 != segmentEnd) continue;
      endSegment<Shape>(total, sums);
      segmentEnd = segmentStart(product.blocks, ++segment);
    }
  }
  cpAsyncWait<0>();
  __syncthreads();
  finishTile<T, Shape>(product, total, reinterpret_cast<float*>(ring), firstRow, firstToken, warpRow, warpToken);
}

template <typename T, typename Shape>
void launchMany(const Product& product, cudaStream_t stream) {
  const int tokenTiles = (product.tokens + Shape::kTokens - 1) / Shape::kTokens;
  const int rowTiles = (product.weightRows + Shape::kRows - 1) / Shape::kRows;
  const dim3 grid(std::min(tokenTiles, kBand), rowTiles, (tokenTiles + kBand - 1) / kBand);
  launch(manyTokensKernel<T, Shape>, {"project", grid, dim3(kThreads), Shape::kShared, stream}, product);
}

template <typename T>
void launchMany(const Product& product, cudaStream_t stream) {
  const int64_t tiles = padTo(product.tokens, LargeTile::kTokens) / LargeTile::kTokens *
                        (padTo(product.weightRows, LargeTile::kRows) / LargeTile::kRows);
  // A large tile is worth about two of the multiprocessors that it may leave idle.
  if (2 * tiles >= multiprocessors())
    launchMany<T, LargeTile>(product, stream);
  else
    launchMany<T, SmallTile>(product, stream);
}

}  // namespace

void projectMany(DType dtype, const Product& product, cudaStream_t stream) {
  if (dtype == DType::kF16)
    launchMany<__half>(product, stream);
  else
    launchMany<__nv_bfloat16>(product, stream);
}

}  // namespace shardspeed::cuda
