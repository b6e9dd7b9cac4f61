#include <cuda_runtime.h>

#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/norm.cuh"
#include "cuda/projection.h"
#include "cuda/ptx.cuh"

// Norms of whole rows, and means of these: one block a row, x (rows, cols) fp32. Memory sees a row once: the passes for
// the mean and for the variance leave it in the L1 cache, from which the last pass reads it again. Few rows need no
// launch of their own before a product: cuda/projection_few.cu normalises them itself.

namespace shardspeed::cuda {

namespace {

template <typename T>
__global__ void __launch_bounds__(kNormThreads)
    normalizeRowsKernel(const float* in, int64_t inStride, int cols, int paddedCols, RowNorm norm, T* out,
                        int64_t outStride) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  normalize<1>(in + row * inStride, 0, 1, cols, paddedCols, norm, shared, [&](int, int col, const float(&values)[4]) {
    const uint2 packed = make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
    *reinterpret_cast<uint2*>(out + row * outStride + col) = packed;
  });
}

__global__ void __launch_bounds__(kNormThreads)
    normalizeStreamKernel(float* x, int64_t stride, int cols, int paddedCols, RowNorm norm) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  float* row = x + blockIdx.x * stride;
  normalize<1>(row, 0, 1, cols, paddedCols, norm, shared, [&](int, int col, const float(&values)[4]) {
    *reinterpret_cast<float4*>(row + col) = make_float4(values[0], values[1], values[2], values[3]);
  });
}

__global__ void __launch_bounds__(kNormThreads)
    addNormalizedKernel(const float* part, int64_t stride, int cols, int paddedCols, RowNorm norm, float scale,
                        float* x) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  float* row = x + blockIdx.x * stride;
  normalize<1>(part + blockIdx.x * stride, 0, 1, cols, paddedCols, norm, shared,
               [&](int, int col, const float(&values)[4]) {
                 const float4 before = *reinterpret_cast<const float4*>(row + col);
                 *reinterpret_cast<float4*>(row + col) =
                     make_float4(fmaf(scale, values[0], before.x), fmaf(scale, values[1], before.y),
                                 fmaf(scale, values[2], before.z), fmaf(scale, values[3], before.w));
               });
}

// One block a mean, whose threads each add up their own columns, row after row of the sequence. Means are few: the
// bound keeps the compiler from spilling registers for the sake of more blocks at a time.
__global__ void __launch_bounds__(kNormThreads, 1)
    averageRowsKernel(StepView step, const int32_t* indices, const float* in, int64_t inStride, int cols,
                      int paddedCols, RowNorm norm, float* out, int64_t outStride) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  pdlTrigger();
  const int row = indices[blockIdx.x];
  if (row < 0) return;
  const int64_t first = row - step.positions[row];
  const int count = step.lengths[row];
  float* mean = out + blockIdx.x * outStride;
  for (int i = 0; i < count; ++i) {
    normalize<1>(
        in + (first + i) * inStride, 0, 1, cols, paddedCols, norm, shared, [&](int, int col, const float(&values)[4]) {
          float4& sum = *reinterpret_cast<float4*>(mean + col);
          const float4 before = i == 0 ? make_float4(0, 0, 0, 0) : sum;
          sum = make_float4(before.x + values[0], before.y + values[1], before.z + values[2], before.w + values[3]);
        });
    __syncthreads();
  }
  for (int col = 4 * threadIdx.x; col < paddedCols; col += 4 * kNormThreads)
    for (int j = col; j < col + 4; ++j) mean[j] /= static_cast<float>(count);
}

LaunchConfig oneBlockARow(const char* name, int64_t rows, cudaStream_t stream) {
  return {name, dim3(static_cast<unsigned>(rows)), dim3(kNormThreads), sizeof(NormShared), stream};
}

}  // namespace

void normalizeRows(DType dtype, int64_t rows, int64_t cols, const float* in, int64_t inStride, const NormParams* norm,
                   void* out, int64_t outStride, cudaStream_t stream) {
  if (rows <= 0) return;
  const LaunchConfig config = oneBlockARow("normalizeRows", rows, stream);
  const int64_t paddedCols = padTo(cols, kColumnStep);
  if (dtype == DType::kF16)
    launch(normalizeRowsKernel<__half>, config, in, inStride, cols, paddedCols, RowNorm(norm),
           static_cast<__half*>(out), outStride);
  else
    launch(normalizeRowsKernel<__nv_bfloat16>, config, in, inStride, cols, paddedCols, RowNorm(norm),
           static_cast<__nv_bfloat16*>(out), outStride);
}

void addNormalized(int64_t rows, int64_t cols, const float* part, const NormParams* norm, float scale, float* x,
                   int64_t stride, cudaStream_t stream) {
  if (rows <= 0) return;
  launch(addNormalizedKernel, oneBlockARow("adding a part", rows, stream), part, stride, cols, padTo(cols, 4),
         RowNorm(norm), scale, x);
}

void averageRows(const StepView& step, const int32_t* indices, int64_t count, int64_t cols, const float* in,
                 int64_t inStride, const NormParams* norm, float* out, int64_t outStride, cudaStream_t stream) {
  if (count <= 0) return;
  launch(averageRowsKernel, oneBlockARow("averaging rows", count, stream), step, indices, in, inStride, cols,
         padTo(cols, 4), RowNorm(norm), out, outStride);
}

void normalizeStream(int64_t rows, int64_t cols, float* x, int64_t stride, const NormParams& norm,
                     cudaStream_t stream) {
  if (rows <= 0) return;
  launch(normalizeStreamKernel, oneBlockARow("normalizeStream", rows, stream), x, stride, cols, padTo(cols, 4),
         RowNorm(norm));
}

}  // namespace shardspeed::cuda
