#pragma once

// What nvcc supplies without being asked, and the runtime API: see emulator.h.

#include "atomics.h"
#include "emulator.h"
#include "kernel_side.h"
#include "math_intrinsics.h"
#include "runtime_api.h"
#include "warp_intrinsics.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define __forceinline__ inline
#else
#define __forceinline__ inline __attribute__((always_inline))
#endif
// __shared__ and __constant__ stay undefined: kernels take shared memory through sharedMemory<T>() alone.

#define threadIdx (::emulator::running->index)
#define warpSize 32
// Variables, not macros: cudaLaunchConfig_t has members of two of these names. Set whenever a block goes on.
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

inline void __nanosleep(unsigned, emulator::Site site = emulator::Site::current()) {
  emulator::pause(site);
}
[[noreturn]] inline void __trap(emulator::Site site = emulator::Site::current()) {
  emulator::trap(site);
}
inline long long clock64() {
  return emulator::clock();
}
