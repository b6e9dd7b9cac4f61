#pragma once

#include "runtime_types.h"

// What all functions of the runtime API share: one lock, errors that stay, errors that tests ask for.

namespace emulator {

// The lock. May be taken again by the thread that holds it; a thread that waits for work lets it go meanwhile.
struct Lock {
  Lock();
  ~Lock();
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// A fault of a kernel: every call returns it from now on where the device is current, until cudaDeviceReset().
void setStickyError(int device, cudaError_t error);
cudaError_t stickyError(int device);
bool anyStickyError();
// cudaErrorNotPermitted while a function given to cudaLaunchHostFunc runs in this thread.
extern thread_local bool inHostFunction;

int currentDevice();
cudaError_t beginCall(const char* function, int device);
cudaError_t endCall(cudaError_t status);

// The calls that make up the API: body's status is what is returned, and remembered for cudaGetLastError().
template <typename Body>
cudaError_t callOn(int device, const char* function, Body body) {
  const Lock lock;
  cudaError_t status = beginCall(function, device);
  if (status == cudaSuccess) status = body();
  return endCall(status);
}
template <typename Body>
cudaError_t call(const char* function, Body body) {
  return callOn(currentDevice(), function, body);
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
bool exists(int ordinal);

// Bytes of dynamic shared memory that cudaFuncSetAttribute has allowed the kernel.
size_t allowedSharedBytes(const void* kernel);
void forgetKernels();
void forgetErrors();
void forgetCopies();

}  // namespace emulator
