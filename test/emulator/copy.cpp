#include <atomic>
#include <cstring>

#include "emulator.h"
#include "memory.h"
#include "runtime.h"
#include "runtime_api.h"
#include "stream.h"

// Copies and fills, with the ranges and directions checked.

namespace emulator {
namespace {

uint64_t bytesBetween = 0;
std::atomic<uint64_t> bytesPrefetched{0};

enum class Side { kDevice, kPinned, kPageable, kInvalid };

Side sideOf(const void* pointer, size_t bytes) {
  const Allocation* a = findAllocation(pointer);
  if (a == nullptr) return pointer == nullptr && bytes > 0 ? Side::kInvalid : Side::kPageable;
  if (!isAllocated(pointer, bytes)) return Side::kInvalid;
  return a->kind == MemoryKind::kDevice ? Side::kDevice : Side::kPinned;
}

struct Sides {
  Side to, from;
};

void countCopy(Side to, Side from, size_t bytes) {
  if ((to == Side::kDevice) != (from == Side::kDevice)) bytesBetween += bytes;
}

cudaError_t checkSides(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind, Sides& sides) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  sides = {sideOf(to, bytes), sideOf(from, bytes)};
  if (sides.to == Side::kInvalid || sides.from == Side::kInvalid) return cudaErrorInvalidValue;
  if (kind == cudaMemcpyDefault) return cudaSuccess;
  const bool toDevice = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool fromDevice = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool right = toDevice == (sides.to == Side::kDevice) && fromDevice == (sides.from == Side::kDevice);
  return right ? cudaSuccess : cudaErrorInvalidValue;
}

Operation copyOperation(void* to, const void* from, size_t bytes) {
  Operation operation;
  operation.work = [=] {
    // Freed since: CUDA would fail as well, or worse.
    const Side toSide = sideOf(to, bytes), fromSide = sideOf(from, bytes);
    if (toSide == Side::kInvalid || fromSide == Side::kInvalid) return cudaErrorIllegalAddress;
    countCopy(toSide, fromSide, bytes);
    memmove(to, from, bytes);
    return cudaSuccess;
  };
  return operation;
}

cudaError_t copyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  const StreamPointer stream = findStream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  Sides sides;
  if (const cudaError_t status = checkSides(to, from, bytes, kind, sides); status != cudaSuccess) return status;
  const bool capturing = stream->capture != nullptr;
  if (sides.from == Side::kPageable && !capturing) {
    // Through a buffer of the driver's, so the caller's may change as soon as the call returns.
    auto staged = std::make_shared<std::vector<uint8_t>>(static_cast<const uint8_t*>(from),
                                                         static_cast<const uint8_t*>(from) + bytes);
    Operation operation;
    operation.work = [=] {
      countCopy(sideOf(to, bytes), Side::kPageable, bytes);
      memcpy(to, staged->data(), bytes);
      return cudaSuccess;
    };
    return enqueue(stream, std::move(operation));
  }
  const cudaError_t status = enqueue(stream, copyOperation(to, from, bytes));
  // To pageable memory the call itself waits.
  if (status == cudaSuccess && sides.to == Side::kPageable && !capturing) return finishStream(stream);
  return status;
}

cudaError_t fillAsync(void* to, int value, size_t bytes, cudaStream_t handle) {
  const StreamPointer stream = findStream(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  const Side side = sideOf(to, bytes);
  if (side != Side::kDevice && side != Side::kPinned) return cudaErrorInvalidValue;
  Operation operation;
  operation.work = [=] {
    if (!isAllocated(to, bytes)) return cudaErrorIllegalAddress;
    memset(to, value, bytes);
    return cudaSuccess;
  };
  return enqueue(stream, std::move(operation));
}

}  // namespace

uint64_t copiedBytes() {
  return bytesBetween;
}
uint64_t prefetchedBytes() {
  return bytesPrefetched.load(std::memory_order_relaxed);
}
void countPrefetch(uint32_t bytes) {
  bytesPrefetched.fetch_add(bytes, std::memory_order_relaxed);
}
void forgetCopies() {
  bytesBetween = 0;
  bytesPrefetched = 0;
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return call(__func__, [&] {
    if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
    const cudaError_t status = copyAsync(to, from, bytes, kind, nullptr);
    return status != cudaSuccess ? status : finishStream(findStream(nullptr));
  });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return call(__func__, [&] { return copyAsync(to, from, bytes, kind, stream); });
}
cudaError_t cudaMemcpyPeerAsync(void* to, int toDevice, const void* from, int fromDevice, size_t bytes,
                                cudaStream_t stream) {
  return call(__func__, [&] {
    if (!exists(toDevice) || !exists(fromDevice)) return cudaErrorInvalidDevice;
    if (accessTo(to, bytes).owner != toDevice || accessTo(from, bytes).owner != fromDevice)
      return cudaErrorInvalidValue;
    return copyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  });
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t toPitch, const void* from, size_t fromPitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return call(__func__, [&] {
    if (width > toPitch || width > fromPitch) return cudaErrorInvalidValue;
    for (size_t row = 0; row < height; ++row) {
      const cudaError_t status = copyAsync(static_cast<uint8_t*>(to) + row * toPitch,
                                           static_cast<const uint8_t*>(from) + row * fromPitch, width, kind, stream);
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  });
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return call(__func__, [&] {
    if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
    return fillAsync(to, value, bytes, nullptr);
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return call(__func__, [&] { return fillAsync(to, value, bytes, stream); });
}
