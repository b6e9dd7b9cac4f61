#include "cuda/rows.h"

#include <algorithm>

#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Copies of rows: embedding lookup, learned positions, token types, the rows whose logits are wanted.
//
// Nothing is computed twice and nothing is kept, so all that counts is that each byte moves once, in 16-byte accesses,
// with enough of them under way. One block a row; a thread moves kUnit = 8 elements of 16 bits (16 bytes) or the same
// number of floats (32 bytes) at a time. Rows start at multiples of 64 elements, so every unit is aligned; the columns
// after the last whole unit go one by one, because what lies behind `cols` is not ours to write.

namespace shardspeed::cuda {

namespace {

constexpr int kUnit = 8;
constexpr int kMostThreads = 256;

// kUnit elements from (to) an address aligned to 16 bytes, as fp32.
__device__ __forceinline__ void loadUnit(const float* from, float (&values)[kUnit]) {
  const float4 low = *reinterpret_cast<const float4*>(from);
  const float4 high = *reinterpret_cast<const float4*>(from + 4);
  values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
  values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}
template <typename T>
__device__ __forceinline__ void loadUnit(const T* from, float (&values)[kUnit]) {
  const Pack8<T> pack(*reinterpret_cast<const uint4*>(from));
#pragma unroll
  for (int i = 0; i < kUnit; ++i) values[i] = toFloat(pack.values[i]);
}
__device__ __forceinline__ void storeUnit(float* to, const float (&values)[kUnit]) {
  *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
  *reinterpret_cast<float4*>(to + 4) = make_float4(values[4], values[5], values[6], values[7]);
}

__device__ __forceinline__ float widen(float value) {
  return value;
}
template <typename T>
__device__ __forceinline__ float widen(T value) {
  return toFloat(value);
}

// The block writes the row as fp32; kAdd: adds to what is there.
template <bool kAdd, typename T>
__device__ __forceinline__ void writeWide(const T* in, float* out, int64_t cols) {
  const int64_t units = cols / kUnit;
  for (int64_t unit = threadIdx.x; unit < units; unit += blockDim.x) {
    float values[kUnit];
    loadUnit(in + unit * kUnit, values);
    if (kAdd) {
      float before[kUnit];
      loadUnit(out + unit * kUnit, before);
#pragma unroll
      for (int i = 0; i < kUnit; ++i) values[i] = before[i] + values[i];
    }
    storeUnit(out + unit * kUnit, values);
  }
  for (int64_t col = units * kUnit + threadIdx.x; col < cols; col += blockDim.x)
    out[col] = kAdd ? out[col] + widen(in[col]) : widen(in[col]);
}

// The same row in the same type: bits are moved, not numbers.
template <typename T>
__device__ __forceinline__ void copyRow(const T* in, T* out, int64_t cols) {
  const int64_t units = cols / kUnit;
  for (int64_t unit = threadIdx.x; unit < units; unit += blockDim.x)
    *reinterpret_cast<uint4*>(out + unit * kUnit) = *reinterpret_cast<const uint4*>(in + unit * kUnit);
  for (int64_t col = units * kUnit + threadIdx.x; col < cols; col += blockDim.x) out[col] = in[col];
}

template <typename T>
__device__ __forceinline__ void clearRow(T* out, int64_t cols) {
  const int64_t units = cols / kUnit;
  const float zeros[kUnit] = {};
  for (int64_t unit = threadIdx.x; unit < units; unit += blockDim.x) {
    if constexpr (sizeof(T) == sizeof(float))
      storeUnit(out + unit * kUnit, zeros);
    else
      *reinterpret_cast<uint4*>(out + unit * kUnit) = make_uint4(0, 0, 0, 0);
  }
  for (int64_t col = units * kUnit + threadIdx.x; col < cols; col += blockDim.x) {
    if constexpr (sizeof(T) == sizeof(float))
      out[col] = 0;
    else
      out[col] = fromFloat<T>(0);
  }
}

template <typename T, bool kWide>
__global__ void __launch_bounds__(kMostThreads)
    embedKernel(StepView step, int64_t cols, TokenTable table, void* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  if (step.positions[row] < 0) return;
  const int64_t entry = step.tokenIds[row] - table.firstToken;
  const bool known = entry >= 0 && entry < table.tokens;
  const T* in = static_cast<const T*>(table.data) + (known ? entry * table.stride : 0);
  if (!known) {
    if (kWide) return clearRow(static_cast<float*>(out) + row * outStride, cols);
    return clearRow(static_cast<T*>(out) + row * outStride, cols);
  }
  if (kWide)
    writeWide<false>(in, static_cast<float*>(out) + row * outStride, cols);
  else
    copyRow(in, static_cast<T*>(out) + row * outStride, cols);
}

// For the models that scale their embeddings; others keep to copies.
template <typename T, bool kWide>
__global__ void __launch_bounds__(kMostThreads)
    embedScaledKernel(StepView step, int64_t cols, TokenTable table, float scale, void* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  if (step.positions[row] < 0) return;
  const int64_t entry = step.tokenIds[row] - table.firstToken;
  const bool known = entry >= 0 && entry < table.tokens;
  const T* in = static_cast<const T*>(table.data) + (known ? entry * table.stride : 0);
  for (int64_t col = threadIdx.x; col < cols; col += blockDim.x) {
    const float value = known ? __fmul_rn(toFloat(in[col]), scale) : 0.0f;
    if (kWide)
      static_cast<float*>(out)[row * outStride + col] = value;
    else
      static_cast<T*>(out)[row * outStride + col] = fromFloat<T>(value);
  }
}

__global__ void __launch_bounds__(kMostThreads)
    scaleLogitsKernel(int64_t cols, float scale, float softCap, float* x, int64_t stride) {
  pdlWait();
  pdlTrigger();
  float* row = x + blockIdx.y * stride;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  const float value = __fmul_rn(row[col], scale);
  row[col] = softCap > 0 ? __fmul_rn(softCap, tanhf(value / softCap)) : value;
}

template <typename T>
__global__ void __launch_bounds__(kMostThreads) xieluKernel(int64_t cols, XieluNumbers numbers, T* x, int64_t stride) {
  pdlWait();
  pdlTrigger();
  const int64_t col = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  if (col >= cols) return;
  T& element = x[blockIdx.x * stride + col];
  const float value = toFloat(element);
  const float bent = value > 0 ? __fmul_rn(numbers.positive, __fmul_rn(value, value))
                               : __fmul_rn(numbers.negative, __fsub_rn(expm1f(value), value));
  element = fromFloat<T>(fmaf(0.5f, value, bent));
}

template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    addTableRowsKernel(StepView step, int64_t cols, const T* table, int64_t tableStride, const int32_t* indices,
                       int64_t offset, float* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  if (step.positions[row] < 0) return;
  const int64_t index = indices[row];
  writeWide<true>(table + (index + offset) * tableStride, out + row * outStride, cols);
}

__global__ void __launch_bounds__(kMostThreads) gatherKernel(const int32_t* indices, int64_t cols, const float* in,
                                                             int64_t inStride, float* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const int64_t index = indices[row];
  if (index < 0) return;
  writeWide<false>(in + index * inStride, out + row * outStride, cols);
}

template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    widenKernel(int64_t cols, const T* in, int64_t inStride, float* out, int64_t outStride) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  writeWide<false>(in + row * inStride, out + row * outStride, cols);
}

// As many threads as a row has units, in whole warps.
LaunchConfig perRow(const char* name, int64_t rows, int64_t cols, cudaStream_t stream) {
  const int64_t threads = std::clamp<int64_t>((cols / kUnit + 31) / 32 * 32, 32, kMostThreads);
  return {name, dim3(static_cast<unsigned>(rows)), dim3(static_cast<unsigned>(threads)), 0, stream};
}

template <typename T>
void embedAs(const StepView& step, int64_t rows, int64_t cols, const TokenTable& table, void* out, int64_t outStride,
             bool wide, cudaStream_t stream) {
  launch(wide ? embedKernel<T, true> : embedKernel<T, false>, perRow("embedTokens", rows, cols, stream), step, cols,
         table, out, outStride);
}

}  // namespace

void embedTokens(DType dtype, const StepView& step, int64_t rows, int64_t cols, const TokenTable& table, void* out,
                 int64_t outStride, bool wide, cudaStream_t stream) {
  if (rows == 0) return;
  if (dtype == DType::kF16)
    embedAs<__half>(step, rows, cols, table, out, outStride, wide, stream);
  else
    embedAs<__nv_bfloat16>(step, rows, cols, table, out, outStride, wide, stream);
}

void embedScaledTokens(DType dtype, const StepView& step, int64_t rows, int64_t cols, const TokenTable& table,
                       float scale, void* out, int64_t outStride, bool wide, cudaStream_t stream) {
  if (rows == 0) return;
  const LaunchConfig config = perRow("embedTokens", rows, cols, stream);
  const auto run = [&](auto kernel) { launch(kernel, config, step, cols, table, scale, out, outStride); };
  if (dtype == DType::kF16)
    run(wide ? embedScaledKernel<__half, true> : embedScaledKernel<__half, false>);
  else
    run(wide ? embedScaledKernel<__nv_bfloat16, true> : embedScaledKernel<__nv_bfloat16, false>);
}

void scaleLogits(int64_t rows, int64_t cols, float scale, float softCap, float* x, int64_t stride,
                 cudaStream_t stream) {
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>((cols + kMostThreads - 1) / kMostThreads), static_cast<unsigned>(rows));
  launch(scaleLogitsKernel, {"scaling logits", grid, dim3(kMostThreads), 0, stream}, cols, scale, softCap, x, stride);
}

void applyXielu(DType dtype, int64_t rows, int64_t cols, XieluNumbers numbers, void* x, int64_t stride,
                cudaStream_t stream) {
  if (rows == 0) return;
  // Rows of prompts may be more than the 65,535 that the other dimensions of a grid take.
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>((cols + kMostThreads - 1) / kMostThreads));
  const LaunchConfig config{"xIELU", grid, dim3(kMostThreads), 0, stream};
  if (dtype == DType::kF16)
    launch(xieluKernel<__half>, config, cols, numbers, static_cast<__half*>(x), stride);
  else
    launch(xieluKernel<__nv_bfloat16>, config, cols, numbers, static_cast<__nv_bfloat16*>(x), stride);
}

void addTableRows(DType dtype, const StepView& step, int64_t rows, int64_t cols, const void* table, int64_t tableStride,
                  const int32_t* indices, int64_t offset, float* out, int64_t outStride, cudaStream_t stream) {
  if (rows == 0) return;
  const LaunchConfig config = perRow("adding rows of a table", rows, cols, stream);
  if (dtype == DType::kF32)
    launch(addTableRowsKernel<float>, config, step, cols, static_cast<const float*>(table), tableStride, indices,
           offset, out, outStride);
  else if (dtype == DType::kF16)
    launch(addTableRowsKernel<__half>, config, step, cols, static_cast<const __half*>(table), tableStride, indices,
           offset, out, outStride);
  else
    launch(addTableRowsKernel<__nv_bfloat16>, config, step, cols, static_cast<const __nv_bfloat16*>(table), tableStride,
           indices, offset, out, outStride);
}

void gatherRows(const int32_t* indices, int64_t count, int64_t cols, const float* in, int64_t inStride, float* out,
                int64_t outStride, cudaStream_t stream) {
  if (count == 0) return;
  launch(gatherKernel, perRow("gatherRows", count, cols, stream), indices, cols, in, inStride, out, outStride);
}

void widenRows(DType dtype, int64_t rows, int64_t cols, const void* in, int64_t inStride, float* out, int64_t outStride,
               cudaStream_t stream) {
  if (rows == 0) return;
  const LaunchConfig config = perRow("widenRows", rows, cols, stream);
  if (dtype == DType::kF16)
    launch(widenKernel<__half>, config, cols, static_cast<const __half*>(in), inStride, out, outStride);
  else
    launch(widenKernel<__nv_bfloat16>, config, cols, static_cast<const __nv_bfloat16*>(in), inStride, out, outStride);
}

}  // namespace shardspeed::cuda
