#include "cuda/experts.h"

#include "cuda/launch.cuh"
#include "cuda/projection_tile.cuh"

// The products of a mixture of experts. A block computes a tile of one expert's weight rows for a piece of its slots,
// and finds both by its index: the tiles of a piece follow one another, and so do the pieces of an expert, whose
// weights and rows then are in L2. The grid has room for as many pieces as any routing may make; blocks without one end
// at once. So time follows the slots and the experts that have any, and nothing of the routing leaves the device.
//
// Rows are read from where they lie, by the plan, and not gathered first. Steps of 64 columns of weights and rows come
// by cp.async through a ring in shared memory, laid out as in cuda/projection_many.cu. Few slots have a deep ring and
// hardly any tokens, so that a multiprocessor has more than 100 KB of weights under way; many have the tile of prompts.
// A sum is one chain over ascending columns in every shape: a slot's bits do not depend on its company.
//
// Results of experts stay fp32; the last kernel adds up those of a row, in the order of the experts' indices.

namespace shardspeed::cuda {

namespace {

using FewSlots = TileShape<64, 8, 16, 8, 6>;
using SomeSlots = TileShape<64, 32, 32, 16, 4>;
using ManySlots = TileShape<128, 128, 64, 32, 3>;
static_assert(ManySlots::kShared <= kMostSharedBytes);

constexpr int kSumThreads = 128;

// ExpertProduct as a kernel's argument.
struct GroupedProduct {
  const void* weight = nullptr;  // T (experts weightRows, columns)
  const void* in = nullptr;
  int64_t inStride = 0;
  const ExpertPiece* pieces = nullptr;
  const int32_t* rowOf = nullptr;   // null = in has the slots themselves
  const float* weightOf = nullptr;  // what sums are multiplied by, null = nothing
  int weightRows = 0;               // of an expert
  int columns = 0;
  bool clamped = false;
  float limit = 0;
  float alpha = 0;
  Finish finish;
};

// Rows of shared memory that a thread copies 16 bytes of in a step.
template <typename Shape>
constexpr int kRowsAtOnce = Shape::kThreads / 8;

// from(i): the thread's 16 bytes of its i-th row, and whether there is such a row.
template <typename T, typename Shape, int kRowCount, typename From>
__device__ __forceinline__ void copyRows(T* to, From from) {
  constexpr int kAtOnce = kRowsAtOnce<Shape>;
  const int row = threadIdx.x / 8, chunk = threadIdx.x % 8;
  to += chunk / 4 * Shape::kPlane + row * kBlockColumns + chunk % 4 * 8;
#pragma unroll
  for (int i = 0; i * kAtOnce < kRowCount; ++i) {
    if (kRowCount % kAtOnce != 0 && i * kAtOnce + row >= kRowCount) break;
    const auto [address, valid] = from(i);
    cpAsync16(to + i * kAtOnce * kBlockColumns, address, valid);
  }
}

template <typename T>
struct Source {
  const T* address;
  bool valid;
};

// With g = min(gate, limit), u = up within [-limit, limit]: g sigmoid(alpha g) (u + 1). A NaN stays one.
__device__ __forceinline__ float clampedGate(float gate, float up, float limit, float alpha) {
  const float g = gate > limit ? limit : gate;
  const float u = up > limit ? limit : up < -limit ? -limit : up;
  return __fmul_rn(__fmul_rn(g, sigmoidOf(__fmul_rn(alpha, g))), __fadd_rn(u, 1.0f));
}

// Finishes the sums of four weight rows of a slot, and of their up rows where gated: bias, activation, gate.
template <typename T>
__device__ __forceinline__ void finishSlot(const GroupedProduct& product, int expert, int slot, int row,
                                           float (&values)[kQuad], float (&ups)[kQuad]) {
  const Finish& finish = product.finish;
  const int col = columnOfRow(row, finish.gated);
  if (col >= finish.outCols) return;
  if (product.weightOf) {
    const float weight = product.weightOf[slot];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) values[i] = __fmul_rn(values[i], weight), ups[i] = __fmul_rn(ups[i], weight);
  }
  const float* bias = finish.bias ? finish.bias + static_cast<int64_t>(expert) * product.weightRows + row : nullptr;
  if (bias) addBias(values, bias);
  if (finish.gated && bias) addBias(ups, bias + kGateBlock);
  if (product.clamped) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) values[i] = clampedGate(values[i], ups[i], product.limit, product.alpha);
  } else {
    activate(finish.activation, values);
    if (finish.gated) {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) values[i] = __fmul_rn(values[i], ups[i]);
    }
  }
  storeQuad<T>(finish, slot, col, values);
}

// The sums of a tile, which lie in `meet`, go out.
template <typename T, typename Shape>
__device__ __forceinline__ void finishPiece(const GroupedProduct& product, const ExpertPiece& piece, const float* meet,
                                            int firstRow) {
  const bool gated = product.finish.gated;
  const int quads = quadsOf(Shape::kRows, gated);
#pragma unroll 1
  for (int quad = threadIdx.x; quad < quads * Shape::kTokens; quad += Shape::kThreads) {
    const int token = quad / quads, row = rowOfQuad(quad % quads, gated);
    if (token >= piece.count) break;
    const float* from = meet + token * Shape::kSumStride + row;
    const float4 read = *reinterpret_cast<const float4*>(from);
    float values[kQuad] = {read.x, read.y, read.z, read.w}, ups[kQuad] = {};
    if (gated) {
      const float4 up = *reinterpret_cast<const float4*>(from + kGateBlock);
      ups[0] = up.x, ups[1] = up.y, ups[2] = up.z, ups[3] = up.w;
    }
    finishSlot<T>(product, piece.expert, piece.firstSlot + token, firstRow + row, values, ups);
  }
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads) groupedKernel(GroupedProduct product, int rowTiles) {
  constexpr int kCopies = (Shape::kTokens + kRowsAtOnce<Shape> - 1) / kRowsAtOnce<Shape>;
  pdlWait();
  pdlTrigger();
  const ExpertPiece piece = product.pieces[blockIdx.x / rowTiles];
  if (piece.count == 0) return;
  const int firstRow = static_cast<int>(blockIdx.x % rowTiles) * Shape::kRows;
  const int threadRow = threadIdx.x / 8, threadColumn = threadIdx.x % 8 * 8;
  const int rowsLeft = product.weightRows - firstRow - threadRow;
  const T* weight =
      static_cast<const T*>(product.weight) +
      (static_cast<int64_t>(piece.expert) * product.weightRows + firstRow + (rowsLeft > 0 ? threadRow : 0)) *
          product.columns +
      threadColumn;
  const T* tokens[kCopies];
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int slot = piece.firstSlot + min(threadRow + i * kRowsAtOnce<Shape>, piece.count - 1);
    const int64_t row = product.rowOf ? product.rowOf[slot] : slot;
    tokens[i] = static_cast<const T*>(product.in) + row * product.inStride + threadColumn;
  }

  T* ring = &sharedMemory<T>();
  const int steps = product.columns / kStepColumns;
  const auto copyStep = [&](int step) {
    if (step >= steps) return;
    T* stage = ring + step % Shape::kStages * Shape::kStage;
    copyRows<T, Shape, Shape::kRows>(stage, [&](int i) {
      const bool valid = i * kRowsAtOnce<Shape> < rowsLeft;
      const int64_t skipped = valid ? static_cast<int64_t>(i) * kRowsAtOnce<Shape> * product.columns : 0;
      return Source<T>{weight + skipped + step * kStepColumns, valid};
    });
    copyRows<T, Shape, Shape::kTokens>(stage + Shape::kRows * kBlockColumns, [&](int i) {
      return Source<T>{tokens[i] + step * kStepColumns, threadRow + i * kRowsAtOnce<Shape> < piece.count};
    });
  };
#pragma unroll
  for (int step = 0; step < Shape::kStages - 1; ++step) {
    copyStep(step);
    cpAsyncCommit();
  }

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warpRow = warp % Shape::kWarpsDown * Shape::kWarpRows;
  const int warpToken = warp / Shape::kWarpsDown * Shape::kWarpTokens;
  const int laneOffset = lane / 4 * kBlockColumns + lane % 4 * 8;
  Sums<Shape> sums = {};
  for (int step = 0; step < steps; ++step) {
    cpAsyncWait<Shape::kStages - 2>();
    __syncthreads();
    copyStep(step + Shape::kStages - 1);
    cpAsyncCommit();
    const T* stage = ring + step % Shape::kStages * Shape::kStage + laneOffset;
#pragma unroll
    for (int plane = 0; plane < kPlanes; ++plane)
      multiplyPlane<T, Shape>(sums, stage + plane * Shape::kPlane + warpRow * kBlockColumns,
                              stage + plane * Shape::kPlane + (Shape::kRows + warpToken) * kBlockColumns);
  }
  cpAsyncWait<0>();
  __syncthreads();
  float* meet = reinterpret_cast<float*>(ring);
  storeTile<Shape>(sums, meet, warpRow, warpToken);
  __syncthreads();
  finishPiece<T, Shape>(product, piece, meet, firstRow);
}

__global__ void __launch_bounds__(kSumThreads) sumKernel(int perToken, ExpertSum sum, ExpertPlan plan) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const int col = 4 * static_cast<int>(blockIdx.y * kSumThreads + threadIdx.x);
  if (col >= sum.cols || plan.chosen[row * perToken] < 0) return;
  float values[4] = {};
  for (int k = 0; k < perToken; ++k) {
    const int64_t slot = plan.slotOf[row * perToken + k];
    const float weight = sum.weighs ? plan.weightOf[slot] : 1.0f;
    const float4 read = *reinterpret_cast<const float4*>(sum.values + slot * sum.stride + col);
    values[0] = fmaf(weight, read.x, values[0]);
    values[1] = fmaf(weight, read.y, values[1]);
    values[2] = fmaf(weight, read.z, values[2]);
    values[3] = fmaf(weight, read.w, values[3]);
  }
  float* out = sum.out + row * sum.outStride + col;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (col + i < sum.cols) out[i] = sum.residual ? __fadd_rn(out[i], values[i]) : values[i];
}

template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    gateSharedKernel(int experts, int cols, ExpertPlan plan, T* inner, int64_t stride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const int col = static_cast<int>(blockIdx.y * kSumThreads + threadIdx.x);
  if (col >= cols) return;
  T& element = inner[row * stride + col];
  element = fromFloat<T>(__fmul_rn(toFloat(element), sigmoidOf(plan.logits[row * plan.logitStride + experts])));
}

GroupedProduct groupedProduct(const ExpertProduct& product, const ExpertPlan& plan) {
  GroupedProduct grouped;
  grouped.weight = product.weight;
  grouped.in = product.in;
  grouped.inStride = product.inStride;
  grouped.pieces = plan.pieces;
  grouped.rowOf = product.readsSlots ? nullptr : plan.rowOf;
  grouped.weightOf = product.weighs ? plan.weightOf : nullptr;
  grouped.weightRows = static_cast<int>(product.outFeatures);
  grouped.columns = static_cast<int>(padTo(product.inFeatures, kColumnStep));
  grouped.finish.bias = product.bias;
  grouped.finish.out = product.out;
  grouped.finish.outStride = product.outStride;
  grouped.finish.outCols = static_cast<int>(product.outCols);
  grouped.finish.wide = product.wide;
  return grouped;
}

template <typename T, typename Shape>
void launchGrouped(const GroupedProduct& product, int64_t pieces, cudaStream_t stream) {
  const int rowTiles = (product.weightRows + Shape::kRows - 1) / Shape::kRows;
  const LaunchConfig config{"projecting by experts", dim3(static_cast<unsigned>(pieces * rowTiles)),
                            dim3(Shape::kThreads), Shape::kShared, stream};
  launch(groupedKernel<T, Shape>, config, product, rowTiles);
}

template <typename T>
void launchGrouped(const ExpertsFeedForward& spec, int64_t rows, const GroupedProduct& product, cudaStream_t stream) {
  const int64_t slots = rows * spec.perToken, most = pieceSlots(slots, spec.count);
  const int64_t pieces = mostPieces(slots, spec.count, most);
  if (most == FewSlots::kTokens) return launchGrouped<T, FewSlots>(product, pieces, stream);
  if (most == SomeSlots::kTokens) return launchGrouped<T, SomeSlots>(product, pieces, stream);
  launchGrouped<T, ManySlots>(product, pieces, stream);
}

void launchGrouped(const ExpertsFeedForward& spec, const ExpertProduct& product, const GroupedProduct& grouped,
                   cudaStream_t stream) {
  if (product.rows <= 0) return;
  if (product.dtype == DType::kF16)
    launchGrouped<__half>(spec, product.rows, grouped, stream);
  else
    launchGrouped<__nv_bfloat16>(spec, product.rows, grouped, stream);
}

dim3 columnBlocks(int64_t rows, int64_t units) {
  return dim3(static_cast<unsigned>(rows), static_cast<unsigned>((units + kSumThreads - 1) / kSumThreads));
}

}  // namespace

void projectUpward(const ExpertsFeedForward& spec, const ExpertProduct& product, const ExpertPlan& plan,
                   cudaStream_t stream) {
  GroupedProduct grouped = groupedProduct(product, plan);
  grouped.finish.activation = spec.activation;
  grouped.finish.gated = spec.gated;
  if (spec.clamped) {
    grouped.clamped = true;
    grouped.limit = spec.clamped->limit;
    grouped.alpha = spec.clamped->alpha;
  }
  launchGrouped(spec, product, grouped, stream);
}

void projectDownward(const ExpertsFeedForward& spec, const ExpertProduct& product, const ExpertPlan& plan,
                     cudaStream_t stream) {
  launchGrouped(spec, product, groupedProduct(product, plan), stream);
}

void sumExperts(int64_t perToken, const ExpertSum& sum, const ExpertPlan& plan, cudaStream_t stream) {
  if (sum.rows <= 0) return;
  launch(sumKernel, {"adding up experts", columnBlocks(sum.rows, (sum.cols + 3) / 4), dim3(kSumThreads), 0, stream},
         static_cast<int>(perToken), sum, plan);
}

void gateSharedExpert(DType dtype, int64_t experts, int64_t rows, int64_t cols, const ExpertPlan& plan, void* inner,
                      int64_t stride, cudaStream_t stream) {
  if (rows <= 0) return;
  const LaunchConfig config{"gate of the shared expert", columnBlocks(rows, cols), dim3(kSumThreads), 0, stream};
  const auto run = [&](auto kernel, auto* rowsOfT) {
    launch(kernel, config, static_cast<int>(experts), static_cast<int>(cols), plan, rowsOfT, stride);
  };
  if (dtype == DType::kF16)
    run(gateSharedKernel<__half>, static_cast<__half*>(inner));
  else
    run(gateSharedKernel<__nv_bfloat16>, static_cast<__nv_bfloat16*>(inner));
}

}  // namespace shardspeed::cuda
