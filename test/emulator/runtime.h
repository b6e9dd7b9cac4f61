#pragma once

#include <mutex>

#include "runtime_types.h"

// What all functions of the runtime API share: one lock, errors that stay, errors that tests ask for.

namespace emulator {

std::recursive_mutex& mutex();
struct Lock {
  Lock() : held(mutex()) {}
  std::lock_guard<std::recursive_mutex> held;
};

// A fault of a kernel: every call returns it from now on, until cudaDeviceReset().
void setStickyError(cudaError_t error);
cudaError_t stickyError();
// cudaErrorNotPermitted while a function given to cudaLaunchHostFunc runs in this thread.
extern thread_local bool inHostFunction;

cudaError_t beginCall(const char* function);
cudaError_t endCall(cudaError_t status);

// The calls that make up the API: body's status is what is returned, and remembered for cudaGetLastError().
template <typename Body>
cudaError_t call(const char* function, Body body) {
  const Lock lock;
  cudaError_t status = beginCall(function);
  if (status == cudaSuccess) status = body();
  return endCall(status);
}

struct Device {
  size_t memoryBytes = size_t{8} << 30;
  int count = 1;
  int major = 9, minor = 0;
  int multiprocessors = 8;
  size_t sharedBytes = 48 << 10;
  size_t sharedBytesOnRequest = 227 << 10;
};
extern Device device;
int currentDevice();

// Bytes of dynamic shared memory that cudaFuncSetAttribute has allowed the kernel.
size_t allowedSharedBytes(const void* kernel);
void forgetKernels();
void forgetErrors();

}  // namespace emulator
