#pragma once

#include <cuda_runtime.h>

#include "cuda/error.h"
#include "device.h"

namespace shardspeed::test {

// Where kernels may ask for so much shared memory, on the emulator: their rings are as deep as it allows.
class SharedMemory {
 public:
  explicit SharedMemory([[maybe_unused]] int bytes) {
#ifdef SHARDSPEED_CUDA_EMULATOR
    cuda::check(cudaDeviceGetAttribute(&before_, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), "cudaDeviceGetAttribute");
    emulator::setSharedMemory(static_cast<size_t>(bytes));
#endif
  }
  ~SharedMemory() {
#ifdef SHARDSPEED_CUDA_EMULATOR
    emulator::setSharedMemory(static_cast<size_t>(before_));
#endif
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

 private:
  [[maybe_unused]] int before_ = 0;
};

constexpr int kSmallShared = 99 << 10;  // of sm_86, sm_89 and sm_120

}  // namespace shardspeed::test
