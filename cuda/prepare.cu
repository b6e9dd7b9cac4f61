#include "cuda/attention_args.cuh"
#include "cuda/launch.cuh"
#include "cuda/prepare.h"
#include "cuda/ptx.cuh"
#include "cuda/reduce.cuh"
#include "cuda/rotary.cuh"

// Norms, limits and temperatures of queries and keys, ahead of the attention kernels: a launch more for the models that
// have them, and none of their registers for the others. One block a row of qkv, in place. A warp takes a head where
// heads are normalised each for itself; the block takes all of them where a row is. Prompts and generated tokens go
// through the same kernel, so a row has the same bits whichever it is of.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

struct PrepareShared {
  float cosines[kMostHeadDim / 2];
  float sines[kMostHeadDim / 2];
  float partial[2][kWarps];
};

template <typename T>
struct PrepareArgs {
  AttentionArgs<T> attention;
  HeadNorms norms;
  float clamp;
  bool tempered;
  float heat;
  int heatPeriod;
  int heatOffset;
};

// Scales and shifts the elements of one head, or those of all heads of a row, as a norm says.
struct Factors {
  float mean = 0;
  float scale = 1;
  const float* weight = nullptr;  // of the first element
  const float* bias = nullptr;
};

// x [first, cols) in steps, by one thread.
template <typename T>
__device__ __forceinline__ void finish(T* x, int first, int step, int cols, const Factors& factors, bool normed,
                                       float clamp, float heat) {
#pragma unroll 2
  for (int i = first; i < cols; i += step) {
    float value = toFloat(x[i]);
    if (normed) {
      const float weight = factors.weight ? factors.weight[i] : 1.0f;
      const float bias = factors.bias ? factors.bias[i] : 0.0f;
      value = fmaf(__fmul_rn(__fsub_rn(value, factors.mean), factors.scale), weight, bias);
    }
    if (clamp > 0) value = fminf(fmaxf(value, -clamp), clamp);
    x[i] = fromFloat<T>(__fmul_rn(value, heat));
  }
}

// The sum of this thread's elements of x, or, where `squares`, of their squared distances from the mean, by one code.
template <typename T>
__device__ __forceinline__ float sumOf(const T* x, int first, int step, int cols, float mean, bool squares) {
  float sum = 0;
#pragma unroll 4
  for (int i = first; i < cols; i += step) {
    const float term = __fsub_rn(toFloat(x[i]), mean);
    sum = fmaf(term, squares ? term : 1.0f, sum);
  }
  return sum;
}

// The block's sum; `partial` may be used again behind the next barrier.
__device__ __forceinline__ float blockSum(float value, float (&partial)[kWarps]) {
  value = warpSum(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) total += partial[warp];
  return total;
}

__device__ __forceinline__ float scaleOf(float squares, int count, float epsilon) {
  return rsqrtf(__fadd_rn(squares / static_cast<float>(count), epsilon));
}

// Each head by itself, a warp a head.
template <typename T>
__device__ __forceinline__ void finishHeads(const PrepareArgs<T>& args, T* row, bool normed, float clamp, float heat) {
  const AttentionArgs<T>& a = args.attention;
  const int lane = threadIdx.x % 32;
  for (int head = threadIdx.x / 32; head < a.heads + a.kvHeads; head += kWarps) {
    const bool isQuery = head < a.heads;
    const NormParams& norm = isQuery ? args.norms.query : args.norms.key;
    T* x = row + static_cast<int64_t>(head) * a.headDim;
    Factors factors;
    if (normed) {
      const auto columns = static_cast<float>(a.headDim);
      float sum = 0;
#pragma unroll 1
      for (int pass = norm.kind == NormKind::kLayer ? 0 : 1; pass < 2; ++pass) {
        sum = sumOf(x, lane, 32, a.headDim, factors.mean, pass == 1);
        __syncwarp();
        sum = warpSum(sum);
        if (pass == 0) factors.mean = sum / columns;
      }
      factors.scale = scaleOf(sum, a.headDim, norm.epsilon);
      const int at = args.norms.apart ? (isQuery ? head : head - a.heads) * a.headDim : 0;
      factors.weight = norm.weight ? norm.weight + at : nullptr;
      factors.bias = norm.bias ? norm.bias + at : nullptr;
    }
    finish(x, lane, 32, a.headDim, factors, normed, clamp, isQuery ? heat : 1.0f);
  }
}

// All queries by one norm, and all keys by another.
template <typename T>
__device__ __forceinline__ void finishRow(const PrepareArgs<T>& args, T* row, float clamp, float heat,
                                          PrepareShared& shared) {
  const AttentionArgs<T>& a = args.attention;
#pragma unroll 1
  for (int part = 0; part < 2; ++part) {
    const NormParams& norm = part == 0 ? args.norms.query : args.norms.key;
    T* x = row + (part == 0 ? 0 : static_cast<int64_t>(a.heads) * a.headDim);
    const int cols = (part == 0 ? a.heads : a.kvHeads) * a.headDim;
    const int thread = threadIdx.x;
    Factors factors;
    float squares = 0;
    int count = cols;
    if (args.norms.squares != nullptr) {
      squares = args.norms.squares[blockIdx.x * args.norms.squaresStride + part];
      count = (part == 0 ? args.norms.allHeads : args.norms.allKvHeads) * a.headDim;
    } else {
#pragma unroll 1
      for (int pass = norm.kind == NormKind::kLayer ? 0 : 1; pass < 2; ++pass) {
        squares = blockSum(sumOf(x, thread, kThreads, cols, factors.mean, pass == 1), shared.partial[pass]);
        if (pass == 0) factors.mean = squares / static_cast<float>(cols);
      }
    }
    factors.scale = scaleOf(squares, count, norm.epsilon);
    factors.weight = norm.weight;
    factors.bias = norm.bias;
    finish(x, thread, kThreads, cols, factors, true, clamp, part == 0 ? heat : 1.0f);
    __syncthreads();
  }
}

// Ends with a barrier.
template <typename T>
__device__ __forceinline__ void turnHeads(const PrepareArgs<T>& args, T* row, int position, PrepareShared& shared) {
  const AttentionArgs<T>& a = args.attention;
  turnAngles(position, a.step.inverseFrequencies + a.step.rotaryOffsets[blockIdx.x], a.rotaryHalf, shared.cosines,
             shared.sines);
  __syncthreads();
  const int pairs = (a.heads + a.kvHeads) * a.rotaryHalf;
#pragma unroll 2
  for (int i = threadIdx.x; i < pairs; i += kThreads) {
    const int j = i % a.rotaryHalf;
    T* head = row + static_cast<int64_t>(i / a.rotaryHalf) * a.headDim;
    const int at = a.rotaryInterleaved ? 2 * j : j;
    turnPair(head[at], head[a.rotaryInterleaved ? at + 1 : at + a.rotaryHalf], shared.cosines[j], shared.sines[j]);
  }
  __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(kThreads) prepareKernel(PrepareArgs<T> args) {
  PrepareShared& shared = sharedMemory<PrepareShared>();
  const AttentionArgs<T>& a = args.attention;
  pdlWait();
  pdlTrigger();
  const int position = a.step.positions[blockIdx.x];
  if (position < 0) return;
  T* row = a.qkv + blockIdx.x * a.qkvStride;
  float heat = 1;
  if (args.tempered)
    heat = fmaf(args.heat, log1pf(static_cast<float>((position + args.heatOffset) / args.heatPeriod)), 1.0f);
    // Limits come ahead of the turning, norms may come behind it: then heads are gone through twice.
#pragma unroll 1
  for (int pass = args.norms.after ? 0 : 1; pass < 2; ++pass) {
    const bool normed = pass == 1 && args.norms.on;
    const float clamp = pass == 1 && args.norms.after ? 0 : args.clamp;
    if (normed && args.norms.ofRows)
      finishRow(args, row, clamp, heat, shared);
    else if (pass == 1 || clamp > 0)
      finishHeads(args, row, normed, clamp, pass == 1 ? heat : 1.0f);
    if (pass == 0) turnHeads(args, row, position, shared);
  }
  if (args.clamp > 0)
    finish(row + static_cast<int64_t>(a.heads + a.kvHeads) * a.headDim, threadIdx.x, kThreads, a.kvHeads * a.headDim,
           Factors{}, false, args.clamp, 1.0f);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    squareKernel(const T* qkv, int64_t stride, int queries, int keys, float* squares, int64_t squaresStride) {
  PrepareShared& shared = sharedMemory<PrepareShared>();
  pdlWait();
  pdlTrigger();
  const T* row = qkv + blockIdx.x * stride;
  const float ofQueries = blockSum(sumOf(row, threadIdx.x, kThreads, queries, 0, true), shared.partial[0]);
  const float ofKeys = blockSum(sumOf(row + queries, threadIdx.x, kThreads, keys, 0, true), shared.partial[1]);
  if (threadIdx.x >= 2) return;
  squares[blockIdx.x * squaresStride + threadIdx.x] = threadIdx.x == 0 ? ofQueries : ofKeys;
}

LaunchConfig oneBlockARow(const char* name, int64_t rows, cudaStream_t stream) {
  return {name, dim3(static_cast<unsigned>(rows)), dim3(kThreads), sizeof(PrepareShared), stream};
}

template <typename T>
void prepare(const PrepareParams& params, const StepView& step, int64_t rows, cudaStream_t stream) {
  PrepareArgs<T> args{};
  args.attention = attentionArgs<T>(params.attention, step);
  args.norms = params.norms;
  args.clamp = params.clamp;
  args.tempered = params.temperature.has_value();
  if (args.tempered) {
    args.heat = params.temperature->scale;
    args.heatPeriod = static_cast<int>(params.temperature->period);
    args.heatOffset = static_cast<int>(params.temperature->offset);
  }
  launch(prepareKernel<T>, oneBlockARow("preparing queries and keys", rows, stream), args);
}

}  // namespace

void prepareHeads(const PrepareParams& params, const StepView& step, int64_t rows, cudaStream_t stream) {
  if (rows == 0) return;
  if (params.attention.dtype == DType::kF16)
    prepare<__half>(params, step, rows, stream);
  else
    prepare<__nv_bfloat16>(params, step, rows, stream);
}

void squareHeads(DType dtype, int64_t rows, const void* qkv, int64_t stride, int64_t queries, int64_t keys,
                 float* squares, int64_t squaresStride, cudaStream_t stream) {
  if (rows == 0) return;
  const LaunchConfig config = oneBlockARow("squares of queries and keys", rows, stream);
  if (dtype == DType::kF16)
    launch(squareKernel<__half>, config, static_cast<const __half*>(qkv), stride, queries, keys, squares,
           squaresStride);
  else
    launch(squareKernel<__nv_bfloat16>, config, static_cast<const __nv_bfloat16*>(qkv), stride, queries, keys, squares,
           squaresStride);
}

}  // namespace shardspeed::cuda
