#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "cuda/error.h"
#include "cuda/overlap.h"

// The two things that kernels here do not write in CUDA's own syntax, so that the same files compile with g++ against
// test/emulator: launches, and the declaration of shared memory.

namespace shardspeed::cuda {

struct LaunchConfig {
  const char* name;  // of the operation, for messages
  dim3 grid;
  dim3 block;
  size_t sharedBytes;
  cudaStream_t stream;
  // Programmatic dependent launch (sm_90 and later): the kernel may start while the one before it drains. It must call
  // pdlWait() (cuda/ptx.cuh) before it touches anything that an earlier kernel wrote or still reads.
  bool overlap = true;
};

// Shared memory that every supported device gives a block.
constexpr size_t kMostSharedBytes = 99 << 10;
// What the current device gives one.
size_t mostSharedBytes();

// Throws Error. Never waits for the device, so it may be called while a stream is captured.
template <typename... Params, typename... Args>
void launch(void (*kernel)(Params...), const LaunchConfig& config, Args&&... args) {
  constexpr size_t kWithoutAsking = 48 << 10;
  // The limit of a function is never lowered: another engine of the process may be about to launch it with more.
  if (config.sharedBytes > kWithoutAsking)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(mostSharedBytes())),
          config.name);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t native{};
  native.gridDim = config.grid;
  native.blockDim = config.block;
  native.dynamicSmemBytes = config.sharedBytes;
  native.stream = config.stream;
  native.attrs = &attribute;
  native.numAttrs = config.overlap && canOverlap() ? 1 : 0;
  check(cudaLaunchKernelEx(&native, kernel, static_cast<Params>(args)...), config.name);
}

#ifdef __CUDACC__
// The block's dynamic shared memory as a T (a plain struct, or an element type for arrays whose size the launch sets).
template <typename T>
__device__ __forceinline__ T& sharedMemory() {
  extern __shared__ __align__(128) unsigned char dynamicShared[];
  return *reinterpret_cast<T*>(dynamicShared);
}
#else
template <typename T>
T& sharedMemory() {
  return *static_cast<T*>(emulator::sharedMemory(sizeof(T)));
}
#endif

}  // namespace shardspeed::cuda
