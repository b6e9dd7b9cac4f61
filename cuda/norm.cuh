#pragma once

#include <cuda_runtime.h>

#include "cuda/projection.h"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"

// LayerNorm and RMSNorm of rows of the fp32 residual stream, by one block of kNormThreads threads. The kernels that
// normalise for themselves and the one that does nothing else run this code, in one order of summation, so that a row
// gets the same bits in all of them.

namespace shardspeed::cuda {

constexpr int kNormThreads = 256;
constexpr int kNormWarps = kNormThreads / 32;
constexpr int kMostNormRows = 8;  // that one block normalises together

// NormParams as a kernel's argument.
struct RowNorm {
  bool on = false;  // off: rows pass as they are
  NormKind kind = NormKind::kLayer;
  float epsilon = 0;
  const float* weight = nullptr;
  const float* bias = nullptr;

  RowNorm() = default;
  explicit RowNorm(const NormParams* norm) {
    if (!norm) return;
    *this = RowNorm(*norm);
  }
  explicit RowNorm(const NormParams& norm)
      : on(true), kind(norm.kind), epsilon(norm.epsilon), weight(norm.weight), bias(norm.bias) {}
};

// What the warps of a block found, row by row; added in ascending order.
struct NormShared {
  float sums[kMostNormRows][kNormWarps];
  float squares[kMostNormRows][kNormWarps];
};

__device__ __forceinline__ float sumOfWarps(const float (&partial)[kNormWarps]) {
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kNormWarps; ++warp) total += partial[warp];
  return total;
}

// partial[row][warp] = the sum of this warp's columns of the row, or where `squares` of their squared distance from the
// row's mean, which is that of `sums` (null: 0). Thread i has columns 4 i ... 4 i + 3 of every 1,024. kAtOnce rows are
// read side by side to have more loads under way; then both sums are one code, for kernels are to fit in the
// instruction cache.
template <int kAtOnce>
__device__ __forceinline__ void sumRows(const float* in, int64_t stride, int rows, int cols, bool squares,
                                        const float (*sums)[kNormWarps], float (*partial)[kNormWarps]) {
  const float share = 1.0f / static_cast<float>(cols);
#pragma unroll 1
  for (int row = 0; row < rows; row += kAtOnce) {
    const float* from[kAtOnce];
    float mean[kAtOnce] = {}, total[kAtOnce] = {};
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int mine = min(row + i, rows - 1);  // the last one again rather than a branch between loads
      from[i] = in + mine * stride;
      if (sums) mean[i] = __fmul_rn(sumOfWarps(sums[mine]), share);
    }
#pragma unroll(kAtOnce == 1 ? 4 : 2)
    for (int col = 4 * threadIdx.x; col < cols; col += 4 * kNormThreads) {
      float4 read[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) read[i] = *reinterpret_cast<const float4*>(from[i] + col);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const float values[4] = {read[i].x, read[i].y, read[i].z, read[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float term = col + j < cols ? __fsub_rn(values[j], mean[i]) : 0.0f;
          total[i] = fmaf(term, squares ? term : 1.0f, total[i]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      total[i] = warpSum(total[i]);
      if (threadIdx.x % 32 == 0 && row + i < rows) partial[row + i][threadIdx.x / 32] = total[i];
    }
  }
}

// Calls put(row, col, values) with norm(in[row])[col ... col + 3] for every fourth column of `rows` rows, at most
// kMostNormRows; columns from `cols` up to paddedCols are zeros. in (rows, stride) and the norm's vectors are readable
// up to paddedCols, a multiple of 4. All threads of a block of kNormThreads call it, and each puts the columns that it
// alone reads, after it has read them. The caller's barrier must come before shared is used again.
template <int kAtOnce, typename Put>
__device__ __forceinline__ void normalize(const float* in, int64_t stride, int rows, int cols, int paddedCols,
                                          const RowNorm& norm, NormShared& shared, Put put) {
  const bool centred = norm.kind == NormKind::kLayer;
  if (norm.on) {
#pragma unroll(kAtOnce == 1 ? 2 : 1)
    for (int pass = 0; pass < 2; ++pass) {
      const bool squares = pass == 1;
      if (!squares && !centred) continue;
      sumRows<kAtOnce>(in, stride, rows, cols, squares, squares && centred ? shared.sums : nullptr,
                       squares ? shared.squares : shared.sums);
      __syncthreads();
    }
  }
  const float4 ones = make_float4(1, 1, 1, 1), zeros = make_float4(0, 0, 0, 0);
  const float share = 1.0f / static_cast<float>(cols);
#pragma unroll 1
  for (int row = 0; row < rows; ++row) {
    float mean = 0, scale = 1;
    if (norm.on) {
      if (centred) mean = __fmul_rn(sumOfWarps(shared.sums[row]), share);
      scale = rsqrtf(__fadd_rn(__fmul_rn(sumOfWarps(shared.squares[row]), share), norm.epsilon));
    }
#pragma unroll 2
    for (int col = 4 * threadIdx.x; col < paddedCols; col += 4 * kNormThreads) {
      const float4 read = *reinterpret_cast<const float4*>(in + row * stride + col);
      const float *weightAt = unforeseen(norm.weight), *biasAt = unforeseen(norm.bias);
      const float4 weight = weightAt ? *reinterpret_cast<const float4*>(weightAt + col) : ones;
      const float4 bias = biasAt ? *reinterpret_cast<const float4*>(biasAt + col) : zeros;
      float values[4] = {read.x, read.y, read.z, read.w};
      const float weights[4] = {weight.x, weight.y, weight.z, weight.w};
      const float biases[4] = {bias.x, bias.y, bias.z, bias.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (norm.on) values[j] = fmaf(__fmul_rn(__fsub_rn(values[j], mean), scale), weights[j], biases[j]);
        if (col + j >= cols) values[j] = 0;
      }
      put(row, col, values);
    }
  }
}

}  // namespace shardspeed::cuda
