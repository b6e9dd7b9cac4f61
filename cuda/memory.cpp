#include "cuda/memory.h"

#include <cstdio>
#include <string>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

static std::string megabytes(size_t bytes) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

static void requireMemory(cudaError_t status, size_t bytes, const char* kind, const char* purpose) {
  if (status != cudaErrorMemoryAllocation) return check(status, purpose);
  cudaGetLastError();  // this error is not sticky: it must not be found by the next call
  std::string message = std::string(kind) + " for " + purpose + ": " + megabytes(bytes) + " are needed";
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess)
    message += ", the device has " + megabytes(free) + " free of " + megabytes(total);
  throw Error("ERR_OUT_OF_MEMORY",
              message + ". Use a smaller kvCacheBytes or maxBatchTokens, or a device with more memory.");
}

DeviceMemory::DeviceMemory(size_t bytes, const char* purpose) : bytes_(bytes) {
  if (bytes == 0) return;
  requireMemory(cudaMalloc(&data_, bytes), bytes, "device memory", purpose);
  // Waited for, since streams of ours do not wait for the default one.
  cudaError_t status = cudaMemset(data_, 0, bytes);
  if (status == cudaSuccess) status = cudaStreamSynchronize(nullptr);
  if (status == cudaSuccess) return;
  cudaFree(data_);
  check(status, purpose);
}

DeviceMemory::~DeviceMemory() {
  if (data_) cudaFree(data_);
}

PinnedMemory::PinnedMemory(size_t bytes, const char* purpose) {
  requireMemory(cudaHostAlloc(&data_, bytes > 0 ? bytes : 1, cudaHostAllocDefault), bytes, "pinned host memory",
                purpose);
}

PinnedMemory::~PinnedMemory() {
  if (data_) cudaFreeHost(data_);
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
}

Stream::~Stream() {
  cudaStreamDestroy(stream_);
}

void Stream::wait(const char* operation) const {
  check(cudaStreamSynchronize(stream_), operation);
}

Event::Event() {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
}

Event::~Event() {
  cudaEventDestroy(event_);
}

void Event::record(const Stream& stream) {
  check(cudaEventRecord(event_, stream.get()), "recording an event");
}

void Event::wait(const char* operation) const {
  check(cudaEventSynchronize(event_), operation);
}

}  // namespace shardspeed::cuda
