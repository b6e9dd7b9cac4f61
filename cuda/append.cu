#include "cuda/attention.h"
#include "cuda/attention_args.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/rotary.cuh"

// Rotary embedding and KV append of prompts, ahead of cuda/attend_prefill.cu. One block a row of qkv: the row's sines
// and cosines are computed once for all of its heads, q is turned in place, k on its way to the page of the cache, and
// v is copied there: every element is read once and written once. 16 bytes a thread at a time (kWidth 8 elements) where
// heads are aligned, else one element.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 128;

struct AppendShared {
  float cosines[kMostHeadDim / 2];
  float sines[kMostHeadDim / 2];
};

// Consecutive elements that move together.
template <typename T, int kWidth>
struct Span {
  T values[kWidth];

  __device__ __forceinline__ static Span load(const T* from) {
    Span span;
    if constexpr (kWidth == 8) {
      const Pack8<T> pack(*reinterpret_cast<const uint4*>(from));
#pragma unroll
      for (int i = 0; i < kWidth; ++i) span.values[i] = pack.values[i];
    } else {
      span.values[0] = *from;
    }
    return span;
  }
  __device__ __forceinline__ void store(T* to) const {
    if constexpr (kWidth == 8) {
      Pack8<T> pack;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) pack.values[i] = values[i];
      *reinterpret_cast<uint4*>(to) = pack.bits;
    } else {
      *to = values[0];
    }
  }
};

// Pairs [j, j + kWidth) of out = those of `in`, which may be out itself, turned.
template <typename T, int kWidth>
__device__ __forceinline__ void turnSpan(const T* in, T* out, int j, int half, bool interleaved,
                                         const AppendShared& shared) {
  const int at = interleaved ? 2 * j : j;
  const int other = interleaved ? at + kWidth : at + half;
  Span<T, kWidth> first = Span<T, kWidth>::load(in + at);
  Span<T, kWidth> second = Span<T, kWidth>::load(in + other);
  const auto turn = [&](T& a, T& b, int pair) { turnPair(a, b, shared.cosines[pair], shared.sines[pair]); };
  if (kWidth > 1 && interleaved) {
#pragma unroll
    for (int i = 0; i + 1 < kWidth; i += 2) {
      turn(first.values[i], first.values[i + 1], j + i / 2);
      turn(second.values[i], second.values[i + 1], j + (kWidth + i) / 2);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) turn(first.values[i], second.values[i], j + i);
  }
  first.store(out + at);
  second.store(out + other);
}

// out [j, j + kWidth) = in, or zeros beyond the head's end, which is at the end of a span.
template <typename T, int kWidth>
__device__ __forceinline__ void copySpan(const T* in, T* out, int j, int headDim) {
  Span<T, kWidth> span;
  if (j < headDim) {
    span = Span<T, kWidth>::load(in + j);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) span.values[i] = fromFloat<T>(0);
  }
  span.store(out + j);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) appendKernel(AttentionArgs<T> args, const int32_t* rows) {
  AppendShared& shared = sharedMemory<AppendShared>();
  // What describes the step was copied to the device before its first kernel, so it may be read ahead of the wait.
  const int row = rows[blockIdx.x];
  const int position = row < 0 ? -1 : args.step.positions[row];
  if (position >= 0)
    turnAngles(position, args.step.inverseFrequencies + args.step.rotaryOffsets[row], args.rotaryHalf, shared.cosines,
               shared.sines);
  pdlWait();
  pdlTrigger();
  if (position < 0) return;
  __syncthreads();

  const int half = args.rotaryHalf;
  const int pairs = half / kWidth;                        // of spans that turn together, in a head
  const int rest = (args.paddedDim - 2 * half) / kWidth;  // spans of a head that do not turn
  const int thread = threadIdx.x;
  for (int i = thread; i < args.heads * pairs; i += kThreads) {
    T* head = args.qkv + row * args.qkvStride + static_cast<int64_t>(i / pairs) * args.headDim;
    turnSpan<T, kWidth>(head, head, i % pairs * kWidth, half, args.rotaryInterleaved, shared);
  }
  const int pageId = args.step.pages[args.step.pageOffsets[row] + position / kPage];
  const int slot = position % kPage * args.paddedDim;
  for (int i = thread; i < args.kvHeads * pairs; i += kThreads) {
    const int head = i / pairs;
    turnSpan<T, kWidth>(args.key(row, head), args.page(pageId, head) + slot, i % pairs * kWidth, half,
                        args.rotaryInterleaved, shared);
  }
  for (int i = thread; i < args.kvHeads * rest; i += kThreads) {
    const int head = i / rest;
    copySpan<T, kWidth>(args.key(row, head), args.page(pageId, head) + slot, 2 * half + i % rest * kWidth,
                        args.headDim);
  }
  const int spans = args.paddedDim / kWidth;
  for (int i = thread; i < args.kvHeads * spans; i += kThreads) {
    const int head = i / spans;
    copySpan<T, kWidth>(args.value(row, head), args.page(pageId, head) + kPage * args.paddedDim + slot,
                        i % spans * kWidth, args.headDim);
  }
}

template <typename T>
void append(const AttentionParams& params, const StepView& step, const int32_t* rows, int64_t rowCount,
            cudaStream_t stream) {
  const LaunchConfig config{"append to the KV cache", dim3(static_cast<unsigned>(rowCount)), dim3(kThreads),
                            sizeof(AppendShared), stream};
  const AttentionArgs<T> args = attentionArgs<T>(params, step);
  const bool aligned = args.headDim % 8 == 0 && args.rotaryHalf % 8 == 0;
  launch(aligned ? appendKernel<T, 8> : appendKernel<T, 1>, config, args, rows);
}

}  // namespace

void appendRows(const AttentionParams& params, const StepView& step, const int32_t* rows, int64_t rowCount,
                cudaStream_t stream) {
  if (rowCount == 0) return;
  if (params.dtype == DType::kF16)
    append<__half>(params, step, rows, rowCount, stream);
  else
    append<__nv_bfloat16>(params, step, rows, rowCount, stream);
}

}  // namespace shardspeed::cuda
