#pragma once

#include <algorithm>

#include "cuda/projection.cuh"

// What the kernels have in common that compute a tile of weight rows and tokens from shared memory
// (cuda/projection_many.cu, cuda/experts.cu).

namespace shardspeed::cuda {

constexpr int kPlanes = 2;
constexpr int kStepColumns = kPlanes * kBlockColumns;
static_assert(kStepColumns == kColumnStep);

template <int kRowCount, int kTokenCount, int kWarpRowCount, int kWarpTokenCount, int kStageCount>
struct TileShape {
  static constexpr int kRows = kRowCount;  // of weights
  static constexpr int kTokens = kTokenCount;
  static constexpr int kWarpRows = kWarpRowCount;  // of them a warp's
  static constexpr int kWarpTokens = kWarpTokenCount;
  static constexpr int kStages = kStageCount;
  static constexpr int kRowTiles = kWarpRows / 16;
  static constexpr int kTokenTiles = kWarpTokens / 8;
  static constexpr int kWarpsDown = kRows / kWarpRows;
  static constexpr int kThreads = 32 * kWarpsDown * (kTokens / kWarpTokens);
  // Half a row of banks between planes, since the eight threads that copy 128 bytes of a row write to both.
  static constexpr int kPlane = (kRows + kTokens + 1) * kBlockColumns;
  static constexpr int kStage = kPlanes * kPlane;
  // Sums of a token: lanes write (2 t, g) and read four neighbours.
  static constexpr int kSumStride = kRows + 4;
  static constexpr size_t kShared = std::max(size_t{kStages} * kStage * 2, size_t{kTokens} * kSumStride * 4);
};

template <typename Shape>
using Sums = float[Shape::kRowTiles][Shape::kTokenTiles][4];

// One block of 32 columns of a warp's tile. rows, tokens: this lane's first 16 bytes of each.
template <typename T, typename Shape>
__device__ __forceinline__ void multiplyPlane(Sums<Shape>& sums, const T* rows, const T* tokens) {
  uint4 fragments[Shape::kTokenTiles];
#pragma unroll
  for (int j = 0; j < Shape::kTokenTiles; ++j)
    fragments[j] = *reinterpret_cast<const uint4*>(tokens + j * 8 * kBlockColumns);
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i) {
    const uint4 low = *reinterpret_cast<const uint4*>(rows + i * 16 * kBlockColumns);
    const uint4 high = *reinterpret_cast<const uint4*>(rows + (i * 16 + 8) * kBlockColumns);
#pragma unroll
    for (int j = 0; j < Shape::kTokenTiles; ++j) multiplyBlock<T>(sums[i][j], low, high, fragments[j]);
  }
}

// A warp's part of `meet`, (tokens, kSumStride).
template <typename Shape>
__device__ __forceinline__ void storeTile(const Sums<Shape>& sums, float* meet, int warpRow, int warpToken) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < Shape::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < Shape::kTokenTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        meet[(warpToken + j * 8 + tokenOfElement(lane, e)) * Shape::kSumStride + warpRow + i * 16 +
             rowOfElement(lane, e)] = sums[i][j][e];
    }
  }
}

}  // namespace shardspeed::cuda
