#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/all_reduce.h"
#include "cuda/element.cuh"
#include "cuda/norm.cuh"
#include "cuda/ptx.cuh"

// What kernels that sum over ranks have in common: rows of parts, in fp32 or in the model's 16 bits, and what follows
// their sums.

namespace shardspeed::cuda {

constexpr int kSumThreads = kNormThreads;

__device__ __forceinline__ float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}

__device__ __forceinline__ float4 add4(const float4& a, const float4& b) {
  return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w));
}

// The columns of a part in 16 bytes, in fp32. P: float, or a 16-bit element.
template <typename P>
struct Columns {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(P));
  static constexpr int kQuads = kCount / 4;
  float4 quads[kQuads];

  static __device__ __forceinline__ Columns zeros() {
    Columns columns;
#pragma unroll
    for (float4& quad : columns.quads) quad = make_float4(0, 0, 0, 0);
    return columns;
  }
  explicit __device__ __forceinline__ Columns(const uint4& bits) {
    if constexpr (std::is_same_v<P, float>) {
      quads[0] = make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                             __uint_as_float(bits.w));
    } else {
      const Pack8<P> pack(bits);
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        quads[i] = make_float4(toFloat(pack.values[4 * i]), toFloat(pack.values[4 * i + 1]),
                               toFloat(pack.values[4 * i + 2]), toFloat(pack.values[4 * i + 3]));
    }
  }
  __device__ __forceinline__ void add(const Columns& other) {
#pragma unroll
    for (int i = 0; i < kQuads; ++i) quads[i] = add4(quads[i], other.quads[i]);
  }

 private:
  Columns() = default;
};

template <typename P>
__device__ __forceinline__ uint4 loadBits(const P* from) {
  return *reinterpret_cast<const uint4*>(from);
}

// RankSum as a kernel's argument.
template <typename P>
struct SummedRows {
  int rows = 0;
  int cols = 0;
  int stride = 0;
  const P* in = nullptr;
  const float* bias = nullptr;
  float* x = nullptr;
  bool residual = false;
  RowNorm next;
  void* narrow = nullptr;
  const unsigned char* fetched = nullptr;
  uint32_t fetchedBytes = 0;

  explicit SummedRows(const RankSum& sum)
      : rows(static_cast<int>(sum.rows)),
        cols(static_cast<int>(sum.cols)),
        stride(static_cast<int>(sum.stride)),
        in(static_cast<const P*>(sum.in)),
        bias(sum.bias),
        x(sum.x),
        residual(sum.residual),
        next(sum.next),
        narrow(sum.narrow),
        fetched(static_cast<const unsigned char*>(sum.fetched)) {}
};

// Columns of a row that a block sums up. A thread has Columns<P>::kCount of them in one access, a block kStep.
template <typename P>
struct Stretch {
  static constexpr int kStep = kSumThreads * Columns<P>::kCount;
  int row = 0;
  int first = 0;
  int end = 0;

  __device__ __forceinline__ int firstOfThread() const {
    return first + Columns<P>::kCount * static_cast<int>(threadIdx.x);
  }
};

// Stores the stretch's sums with all that is added to them: sumUp(first, own, sums) finds those of columns
// first + u * kStep of this thread, given its rank's parts of them as they lie in memory. Columns from the stretch's
// end on are not looked at.
template <int kUnits, typename P, typename SumUp>
__device__ __forceinline__ void storeSums(const SummedRows<P>& rows, const Stretch<P>& stretch, SumUp sumUp) {
  constexpr int kQuads = Columns<P>::kQuads, kStep = Stretch<P>::kStep;
  const int64_t offset = static_cast<int64_t>(stretch.row) * rows.stride;
  const P* in = rows.in + offset;
  float* x = rows.x + offset;
#pragma unroll 1
  for (int first = stretch.firstOfThread(); first < stretch.end; first += kUnits * kStep) {
    uint4 own[kUnits];
    float4 old[kUnits][kQuads], sums[kUnits][kQuads];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int col = first + u * kStep;
      own[u] = make_uint4(0, 0, 0, 0);
      if (col < stretch.end) own[u] = loadBits(in + col);
#pragma unroll
      for (int i = 0; i < kQuads; ++i)
        old[u][i] = rows.residual && col < stretch.end ? load4(x + col + 4 * i) : make_float4(0, 0, 0, 0);
    }
    sumUp(first, own, sums);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int col = first + u * kStep;
      if (col >= stretch.end) continue;
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        float4 value = sums[u][i];
        if (rows.bias) value = add4(value, load4(rows.bias + col + 4 * i));
        if (rows.residual) value = add4(old[u][i], value);
        *reinterpret_cast<float4*>(x + col + 4 * i) = value;
      }
    }
  }
}

// Behind a barrier, when the row's sums are there. Ends with one, so that `shared` may be used again.
template <typename T, typename P>
__device__ __forceinline__ void normalizeRow(const SummedRows<P>& rows, int row, NormShared& shared) {
  const int64_t offset = static_cast<int64_t>(row) * rows.stride;
  T* narrow = static_cast<T*>(rows.narrow) + offset;
  normalize<1>(rows.x + offset, 0, 1, rows.cols, rows.stride, rows.next, shared,
               [&](int, int col, const float(&values)[4]) {
                 *reinterpret_cast<uint2*>(narrow + col) =
                     make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
               });
  __syncthreads();
}

// Calls body<T, P>() for the types of a sum.
template <typename Body>
void withSumTypes(const RankSum& sum, Body body) {
  if (sum.dtype == DType::kF16) {
    if (sum.partDtype == DType::kF32)
      body.template operator()<__half, float>();
    else
      body.template operator()<__half, __half>();
  } else {
    if (sum.partDtype == DType::kF32)
      body.template operator()<__nv_bfloat16, float>();
    else
      body.template operator()<__nv_bfloat16, __nv_bfloat16>();
  }
}

}  // namespace shardspeed::cuda
