#pragma once

#include <cuda_runtime.h>

#include "backend.h"
#include "cuda/activation.cuh"
#include "cuda/element.cuh"
#include "cuda/projection.h"
#include "cuda/ptx.cuh"

// What the kernels of cuda/projection_few.cu and cuda/projection_many.cu share: the arithmetic of a product, so that an
// element of the result has the same bits whichever of them computed it.
//
// out (tokens, features) = in (tokens, K) W^T, W (features, K). Tensor cores multiply with the weights as the operand
// of 16 rows and the tokens as the one of 8, since tokens may be few. K is cut into kSegments, a chain of mma
// instructions over ascending columns sums each, and the sums of the segments are added in ascending order. That is
// enough parallelism for one token, whose segments go to different warps, and costs many tokens nothing.
//
// The columns of a block of 32 stand in another order in the operands than in memory: lane 4 g + t gives its slots of
// two mma instructions from columns 8 t ... 8 t + 7 of row g, 16 contiguous bytes. Sums do not mind as long as weights
// and tokens agree, and neither ldmatrix nor a layout of its own is needed.

namespace shardspeed::cuda {

constexpr int kSegments = 8;
constexpr int kBlockColumns = 32;

// First block of columns of a segment, 0 ... kSegments, of a product of `blocks` of them.
__host__ __device__ __forceinline__ int segmentStart(int blocks, int segment) {
  const int rest = blocks % kSegments;
  return blocks / kSegments * segment + (segment < rest ? segment : rest);
}

// What becomes of the sums.
struct Finish {
  const float* bias = nullptr;  // (paddedRows) or null
  void* out = nullptr;          // T or fp32 (tokens, outStride)
  int64_t outStride = 0;
  int outCols = 0;
  ActivationKind activation = ActivationKind::kNone;
  bool gated = false;
  bool wide = false;      // out is fp32
  bool residual = false;  // only where wide
};

// ProjectionParams as a kernel's argument.
struct Product {
  const void* weight = nullptr;  // T (paddedRows, blocks * kBlockColumns)
  const void* in = nullptr;      // T (tokens, inStride); the fp32 stream where the kernel normalises
  int64_t inStride = 0;
  int tokens = 0;
  int weightRows = 0;
  int paddedRows = 0;
  int blocks = 0;  // of kBlockColumns columns
  Finish finish;
};

// d (16 weight rows, 8 tokens) += over 32 columns. low, high: what this lane read of weight rows g and g + 8; tokens:
// of token row g.
template <typename T>
__device__ __forceinline__ void multiplyBlock(float (&d)[4], const uint4& low, const uint4& high, const uint4& tokens) {
  const uint32_t a0[4] = {low.x, high.x, low.y, high.y}, b0[2] = {tokens.x, tokens.y};
  const uint32_t a1[4] = {low.z, high.z, low.w, high.w}, b1[2] = {tokens.z, tokens.w};
  mma16816<T>(d, a0, b0);
  mma16816<T>(d, a1, b1);
}

// Where element i of a lane's d lies: the weight row in the tile of 16 and the token in the tile of 8.
__device__ __forceinline__ int rowOfElement(int lane, int i) {
  return lane / 4 + 8 * (i / 2);
}
__device__ __forceinline__ int tokenOfElement(int lane, int i) {
  return 2 * (lane % 4) + i % 2;
}

// Weight rows whose results are written together. Where gated, they are gate rows; of 2 * kGateBlock weight rows the
// first half is.
constexpr int kQuad = 4;
__device__ __forceinline__ int quadsOf(int weightRows, bool gated) {
  return weightRows / kQuad / (gated ? 2 : 1);
}
__device__ __forceinline__ int rowOfQuad(int quad, bool gated) {
  constexpr int kOfGates = kGateBlock / kQuad;
  return gated ? quad / kOfGates * (2 * kGateBlock) + quad % kOfGates * kQuad : quad * kQuad;
}

__device__ __forceinline__ void addBias(float (&values)[kQuad], const float* bias) {
  const float4 read = *reinterpret_cast<const float4*>(bias);
  values[0] = __fadd_rn(values[0], read.x);
  values[1] = __fadd_rn(values[1], read.y);
  values[2] = __fadd_rn(values[2], read.z);
  values[3] = __fadd_rn(values[3], read.w);
}

// The column of the output that weight rows row ... row + 3 become.
__device__ __forceinline__ int columnOfRow(int row, bool gated) {
  return gated ? row / (2 * kGateBlock) * kGateBlock + row % (2 * kGateBlock) : row;
}

// Columns col ... col + 3 of a token. Writes nothing outside of out.
template <typename T>
__device__ __forceinline__ void storeQuad(const Finish& finish, int token, int col, const float (&values)[kQuad]) {
  const bool whole = col + kQuad <= finish.outCols;
  if (finish.wide) {
    float* out = static_cast<float*>(finish.out) + token * finish.outStride + col;
    if (whole) {
      auto* four = reinterpret_cast<float4*>(out);
      float4 sum = make_float4(values[0], values[1], values[2], values[3]);
      if (finish.residual) {
        const float4 old = *four;
        sum = make_float4(__fadd_rn(old.x, sum.x), __fadd_rn(old.y, sum.y), __fadd_rn(old.z, sum.z),
                          __fadd_rn(old.w, sum.w));
      }
      *four = sum;
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (col + i < finish.outCols) out[i] = finish.residual ? __fadd_rn(out[i], values[i]) : values[i];
    }
  } else {
    T* out = static_cast<T*>(finish.out) + token * finish.outStride + col;
    if (whole) {
      *reinterpret_cast<uint2*>(out) = make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (col + i < finish.outCols) out[i] = fromFloat<T>(values[i]);
    }
  }
}

// Bias, activation, gate and residual of the sums of weight rows row ... row + 3, and of those of the up rows
// kGateBlock further down where gated.
template <typename T>
__device__ __forceinline__ void finishQuad(const Finish& finish, int token, int row, float (&values)[kQuad],
                                           float (&ups)[kQuad]) {
  const int col = columnOfRow(row, finish.gated);
  if (col >= finish.outCols) return;
  if (finish.bias) addBias(values, finish.bias + row);
  activate(finish.activation, values);
  if (finish.gated) {
    if (finish.bias) addBias(ups, finish.bias + row + kGateBlock);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) values[i] = __fmul_rn(values[i], ups[i]);
  }
  storeQuad<T>(finish, token, col, values);
}

}  // namespace shardspeed::cuda
