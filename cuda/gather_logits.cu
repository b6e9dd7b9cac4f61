#include "cuda/gather_logits.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// Logits are pushed as they are wanted once a step, by many rows at most when a caller wants all of a prompt's: so
// what counts is that they need no memory but the one place on rank 0 where they land, and no barrier of all ranks.
// Block b of rank 0 that takes the part of rank p and block b of rank p are a pair: the first says that the place is
// free (all earlier work of its stream is done with it), the second stores its 16-byte units, every blocks-th group of
// kThreads, across the link and says that they are there, and the first copies them to their columns of the whole,
// which need not be aligned. Pairs do not wait for each other.
//
// A pair knows its turns by the number of gathers before: flags are compared with it, and it may wrap around.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kUnit = 4;
constexpr int kPollsBetweenLooks = 64;

// By one thread; the others of the block meet it at a barrier.
__device__ __forceinline__ void waitForFlag(const uint32_t* flag, uint32_t wanted, const uint32_t* stop) {
  for (int polls = 1; loadAcquireSystem(flag) != wanted; ++polls) {
    if (polls % kPollsBetweenLooks == 0 && loadRelaxedSystem(stop) != 0) return;
    spinPause();
  }
}

// The last of the launch's blocks counts it.
__device__ __forceinline__ void countGather(PushCounts* counts, uint32_t gathers, uint32_t blocks) {
  if (ticket(&counts->gatherBlocks) + 1 != blocks) return;
  counts->gatherBlocks = 0;
  counts->gathers = gathers;
}

struct Join {
  int64_t rows;
  const float* own;
  float* out;
  int64_t stride;
  const LogitPart* parts;
};

__device__ __forceinline__ void joinUnit(const Join& join, const LogitPart& part, int64_t unit, const float4& values) {
  const int unitsARow = part.stride / kUnit;
  const int64_t row = unit / unitsARow;
  const int col = static_cast<int>(unit % unitsARow) * kUnit;
  float* to = join.out + row * join.stride + part.firstCol + col;
  if (part.firstCol % kUnit == 0 && col + kUnit <= part.cols) {
    *reinterpret_cast<float4*>(to) = values;
    return;
  }
  const float all[kUnit] = {values.x, values.y, values.z, values.w};
#pragma unroll
  for (int i = 0; i < kUnit; ++i)
    if (col + i < part.cols) to[i] = all[i];
}

// The units of the block's part that are the block's, as `load` finds them.
template <typename Load>
__device__ __forceinline__ void joinUnits(const Join& join, const LogitPart& part, Load load) {
  const int64_t units = join.rows * part.stride / kUnit;
  for (int64_t unit = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; unit < units;
       unit += static_cast<int64_t>(gridDim.x) * kThreads)
    joinUnit(join, part, unit, load(unit));
}

// Block (b, rank). kFlags: the parts are still to come.
template <bool kFlags>
__global__ void __launch_bounds__(kThreads) joinLogitsKernel(Join join, PushCounts* counts, const uint32_t* stop) {
  pdlWait();
  const int rank = static_cast<int>(blockIdx.y);
  const uint32_t turn = kFlags ? counts->gathers + 1 : 0;
  const LogitPart part = join.parts[rank];
  const float* from = rank == 0 ? join.own : part.from;
  if (kFlags && rank > 0) {
    if (threadIdx.x == 0) {
      storeReleaseSystem(part.room + blockIdx.x, turn);
      waitForFlag(part.there + blockIdx.x, turn, stop);
    }
    __syncthreads();
    joinUnits(join, part, [from](int64_t unit) {
      const uint4 bits = loadRelaxedSystem16(from + unit * kUnit);
      return make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                         __uint_as_float(bits.w));
    });
  } else {
    joinUnits(join, part, [from](int64_t unit) { return *reinterpret_cast<const float4*>(from + unit * kUnit); });
  }
  pdlTrigger();
  if (!kFlags) return;
  __syncthreads();  // all have read the count
  if (threadIdx.x == 0) countGather(counts, turn, gridDim.x * gridDim.y);
}

__global__ void __launch_bounds__(kThreads)
    pushLogitsKernel(const float* part, int64_t units, float* to, const uint32_t* room, uint32_t* there,
                     PushCounts* counts, const uint32_t* stop) {
  pdlWait();
  const uint32_t turn = counts->gathers + 1;
  if (threadIdx.x == 0) waitForFlag(room + blockIdx.x, turn, stop);
  __syncthreads();
  for (int64_t unit = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; unit < units;
       unit += static_cast<int64_t>(gridDim.x) * kThreads)
    storeRelaxedSystem16(to + unit * kUnit, *reinterpret_cast<const uint4*>(part + unit * kUnit));
  pdlTrigger();
  __syncthreads();
  if (threadIdx.x != 0) return;
  storeReleaseSystem(there + blockIdx.x, turn);
  countGather(counts, turn, gridDim.x);
}

void join(const Whole& whole, PushCounts* counts, const uint32_t* stop) {
  if (whole.rows <= 0) return;
  const LaunchConfig config{"joining logits",
                            dim3(static_cast<unsigned>(whole.blocks), static_cast<unsigned>(whole.ranks)),
                            dim3(kThreads), 0, whole.stream};
  const Join arguments{whole.rows, whole.own, whole.out, whole.stride, whole.parts};
  if (counts)
    launch(joinLogitsKernel<true>, config, arguments, counts, stop);
  else
    launch(joinLogitsKernel<false>, config, arguments, counts, stop);
}

}  // namespace

void joinLogits(const Whole& whole) {
  join(whole, nullptr, nullptr);
}

void takeLogits(const Whole& whole, PushCounts* counts, const uint32_t* stop) {
  join(whole, counts, stop);
}

void pushLogits(const PushedPart& part, PushCounts* counts, const uint32_t* stop) {
  if (part.count <= 0) return;
  const LaunchConfig config{"pushing logits", dim3(static_cast<unsigned>(part.blocks)), dim3(kThreads), 0, part.stream};
  launch(pushLogitsKernel, config, part.part, part.count / kUnit, part.to, part.room, part.there, counts, stop);
}

}  // namespace shardspeed::cuda
