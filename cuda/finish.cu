#include "cuda/finish.h"

#include "cuda/launch.cuh"
#include "cuda/projection.cuh"

// Bias, activation and gate as a pass of its own: our kernels do it to sums in registers, a library's product comes
// back rounded. A thread takes four columns of a token, a block 1024 of them; reads and writes each once.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ __forceinline__ void readQuad(const T* from, float (&values)[kQuad]) {
  union {
    uint2 bits;
    T elements[kQuad];
  } read;
  read.bits = *reinterpret_cast<const uint2*>(from);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) values[i] = toFloat(read.elements[i]);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    finishKernel(Finish finish, int weightRows, const T* product, int64_t productStride) {
  pdlWait();
  pdlTrigger();
  const int quad = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  const int token = static_cast<int>(blockIdx.x);
  const int row = rowOfQuad(quad, finish.gated);
  if (row >= weightRows) return;
  const T* from = product + token * productStride + row;
  float values[kQuad], ups[kQuad] = {};
  readQuad(from, values);
  if (finish.gated) readQuad(from + kGateBlock, ups);
  finishQuad<T>(finish, token, row, values, ups);
}

template <typename T>
void finishTyped(const ProjectionParams& params, const void* product, int64_t productStride) {
  Finish finish;
  finish.bias = params.bias;
  finish.out = params.out;
  finish.outStride = params.outStride;
  finish.outCols = static_cast<int>(params.gated ? params.outFeatures / 2 : params.outFeatures);
  finish.activation = params.activation;
  finish.gated = params.gated;
  const int64_t columnsABlock = kThreads * kQuad * (params.gated ? 2 : 1);
  const LaunchConfig config{"finishing a product",
                            // Rows may be more than the 65,535 that the other dimensions of a grid take.
                            dim3(static_cast<unsigned>(params.rows),
                                 static_cast<unsigned>((params.outFeatures + columnsABlock - 1) / columnsABlock)),
                            dim3(kThreads), 0, params.stream};
  launch(finishKernel<T>, config, finish, static_cast<int>(params.outFeatures), static_cast<const T*>(product),
         productStride);
}

}  // namespace

void finishRows(const ProjectionParams& params, const void* product, int64_t productStride) {
  if (params.dtype == DType::kF16)
    finishTyped<__half>(params, product, productStride);
  else
    finishTyped<__nv_bfloat16>(params, product, productStride);
}

}  // namespace shardspeed::cuda
