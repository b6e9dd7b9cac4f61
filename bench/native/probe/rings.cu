#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "probe.h"

// How fast weights can come if nothing else is to be done: one block a multiprocessor, by three ways of keeping many
// bytes under way. A plain read with eight loads a thread is what the others are compared with.

namespace probe {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kSlotBytes = 2048;    // of a warp's ring: four copies of 16 bytes a lane
constexpr int kStageBytes = 16384;  // of a block's ring of bulk copies
constexpr int kStages = 6;
constexpr size_t kBytes = size_t{1} << 30;

__device__ __forceinline__ uint32_t addressOf(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ uint32_t folded(uint4 value) {
  return value.x ^ value.y ^ value.z ^ value.w;
}

__device__ __forceinline__ void keep(uint32_t bits, uint32_t* sink) {
  if (bits == 0x5eed5eedu) *sink = bits;  // never so; the compiler cannot know
}

__global__ void __launch_bounds__(kThreads) readPlainly(const uint4* data, size_t count, uint32_t* sink) {
  const size_t stride = static_cast<size_t>(gridDim.x) * kThreads;
  uint32_t bits = 0;
  for (size_t first = blockIdx.x * static_cast<size_t>(kThreads) + threadIdx.x; first < count; first += 8 * stride) {
    uint4 loaded[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) loaded[i] = first + i * stride < count ? __ldcs(data + first + i * stride) : uint4{};
#pragma unroll
    for (int i = 0; i < 8; ++i) bits |= folded(loaded[i]);
  }
  keep(bits, sink);
}

// A ring for each warp, of kDepth slots; each lane copies and reads its own 64 bytes of a slot.
template <int kDepth>
__global__ void __launch_bounds__(kThreads) readByAsyncCopies(const uint8_t* data, size_t slots, uint32_t* sink) {
  extern __shared__ __align__(128) uint8_t rings[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  uint8_t* ring = rings + warp * kDepth * kSlotBytes;
  const size_t step = static_cast<size_t>(gridDim.x) * kWarps;
  size_t next = blockIdx.x * static_cast<size_t>(kWarps) + warp;
  const auto copy = [&](int slot) {
    if (next < slots)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                         addressOf(ring + slot * kSlotBytes + (i * 32 + lane) * 16)),
                     "l"(data + next * kSlotBytes + (i * 32 + lane) * 16)
                     : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    next += step;
  };
  for (int slot = 0; slot < kDepth - 1; ++slot) copy(slot);
  uint32_t bits = 0;
  int slot = 0;
  for (size_t at = blockIdx.x * static_cast<size_t>(kWarps) + warp; at < slots; at += step) {
    asm volatile("cp.async.wait_group %0;" ::"n"(kDepth - 2) : "memory");
    copy((slot + kDepth - 1) % kDepth);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      bits |= folded(*reinterpret_cast<const uint4*>(ring + slot * kSlotBytes + (i * 32 + lane) * 16));
    slot = (slot + 1) % kDepth;
  }
  keep(bits, sink);
}

__device__ __forceinline__ void initBarrier(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(addressOf(barrier)), "r"(count) : "memory");
}
__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(addressOf(barrier)) : "memory");
}
__device__ __forceinline__ void waitFor(uint64_t* barrier, uint32_t parity) {
  uint32_t done = 0;
  while (!done)
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(addressOf(barrier)), "r"(parity)
                 : "memory");
}
__device__ __forceinline__ void copyBulk(void* to, const void* from, uint64_t* barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(addressOf(barrier)), "r"(kStageBytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(addressOf(to)),
      "l"(from), "r"(kStageBytes), "r"(addressOf(barrier))
      : "memory");
}

// A ring for the block: a warp of its own copies, one instruction a stage, and eight read.
__global__ void __launch_bounds__(kThreads + 32) readByBulkCopies(const uint8_t* data, size_t tiles, uint32_t* sink) {
  extern __shared__ __align__(128) uint8_t stages[];
  __shared__ uint64_t full[kStages], empty[kStages];
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      initBarrier(&full[stage], 1);
      initBarrier(&empty[stage], kThreads);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  int stage = 0;
  uint32_t parity = 0, bits = 0;
  const auto advance = [&] {
    stage = (stage + 1) % kStages;
    if (stage == 0) parity ^= 1;
  };
  if (threadIdx.x >= kThreads) {
    if (threadIdx.x > kThreads) return;
    for (size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x, advance()) {
      waitFor(&empty[stage], parity ^ 1);  // passes at once in the first round
      copyBulk(stages + stage * kStageBytes, data + tile * kStageBytes, &full[stage]);
    }
    return;
  }
  for (size_t tile = blockIdx.x; tile < tiles; tile += gridDim.x, advance()) {
    waitFor(&full[stage], parity);
#pragma unroll
    for (int i = 0; i < kStageBytes / kThreads / 16; ++i)
      bits |= folded(reinterpret_cast<const uint4*>(stages + stage * kStageBytes)[i * kThreads + threadIdx.x]);
    arrive(&empty[stage]);
  }
  keep(bits, sink);
}

template <typename Launch>
void measure(const std::string& name, Launch launch) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int repeat = 0; repeat < 12; ++repeat) {
    check(cudaEventRecord(start), "cudaEventRecord");
    launch();
    check(cudaGetLastError(), name.c_str());
    check(cudaEventRecord(end), "cudaEventRecord");
    check(cudaEventSynchronize(end), name.c_str());
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, end), "cudaEventElapsedTime");
    if (repeat >= 3) times.push_back(milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  std::printf("%-40s %7.0f GB/s\n", name.c_str(), static_cast<double>(kBytes) / times[times.size() / 2] / 1e6);
  cudaEventDestroy(start);
  cudaEventDestroy(end);
}

template <int kDepth>
void measureDepth(const uint8_t* data, uint32_t* sink, int multiprocessors) {
  constexpr int kShared = kWarps * kDepth * kSlotBytes;
  check(cudaFuncSetAttribute(readByAsyncCopies<kDepth>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "cudaFuncSetAttribute");
  measure("cp.async ring, " + std::to_string(kDepth) + " x 2 KB a warp",
          [&] { readByAsyncCopies<kDepth><<<multiprocessors, kThreads, kShared>>>(data, kBytes / kSlotBytes, sink); });
}

}  // namespace

void measureRings() {
  int multiprocessors = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  uint8_t* data = nullptr;
  uint32_t* sink = nullptr;
  check(cudaMalloc(&data, kBytes), "cudaMalloc");
  check(cudaMalloc(&sink, sizeof *sink), "cudaMalloc");
  check(cudaMemset(data, 0x3c, kBytes), "cudaMemset");
  measure("plain read, 8 blocks a multiprocessor", [&] {
    readPlainly<<<8 * multiprocessors, kThreads>>>(reinterpret_cast<const uint4*>(data), kBytes / 16, sink);
  });
  measureDepth<2>(data, sink, multiprocessors);
  measureDepth<3>(data, sink, multiprocessors);
  measureDepth<5>(data, sink, multiprocessors);
  measureDepth<8>(data, sink, multiprocessors);
  constexpr int kShared = kStages * kStageBytes;
  check(cudaFuncSetAttribute(readByBulkCopies, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "cudaFuncSetAttribute");
  measure("bulk copies, 6 x 16 KB a block",
          [&] { readByBulkCopies<<<multiprocessors, kThreads + 32, kShared>>>(data, kBytes / kStageBytes, sink); });
  cudaFree(data);
  cudaFree(sink);
}

}  // namespace probe
