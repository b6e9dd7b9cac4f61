#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>

#include "peers.h"
#include "runtime.h"
#include "runtime_api.h"
#include "sanitizers.h"
#include "stream.h"

// Allocations end where a page begins that may not be touched, or up to 255 bytes before it, as they must begin at a
// multiple of 256: what is written into that gap, or just before the beginning, is seen later. A page ahead of them is
// closed as well.

namespace emulator {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr size_t kCanaryBytes = 64;  // ahead of an allocation
constexpr uint8_t kCanary = 0xc5;
constexpr size_t kGarbageBytes = 16 << 20;

auto& allocations = *new std::map<uintptr_t, Allocation>;
size_t deviceBytes[kMaxDevices];  // in use, by device
// The last answer of accessTo().
uintptr_t lastFound, lastFoundEnd;
Access lastAccess;

size_t roundUp(size_t bytes, size_t to) {
  return (bytes + to - 1) / to * to;
}

uint8_t* closedEnd(const Allocation& a) {
  return a.mapping + a.mappingBytes - kPage;
}

// Fresh device memory holds anything; NaN shows who reads it. Very large allocations stay cheap by holding zeros
// inside.
void fillWithGarbage(uint8_t* memory, size_t bytes) {
  if (bytes <= 2 * kGarbageBytes) {
    memset(memory, 0xff, bytes);
    return;
  }
  memset(memory, 0xff, kGarbageBytes);
  memset(memory + bytes - kGarbageBytes, 0xff, kGarbageBytes);
}

// Null if the machine has no more.
void* allocate(size_t bytes, MemoryKind kind) {
  Allocation a;
  a.bytes = bytes;
  a.kind = kind;
  a.device = currentDevice();
  const size_t inside = roundUp(roundUp(bytes, kAlignment) + kCanaryBytes, kPage);
  a.mappingBytes = inside + 2 * kPage;
  void* mapping = mmap(nullptr, a.mappingBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  a.mapping = static_cast<uint8_t*>(mapping);
  mprotect(a.mapping + kPage, inside, PROT_READ | PROT_WRITE);
  uint8_t* begin = closedEnd(a) - roundUp(bytes, kAlignment);
  a.address = reinterpret_cast<uintptr_t>(begin);
  if (kind == MemoryKind::kDevice) fillWithGarbage(begin, bytes);
  if (kAsan) {
    poison(a.mapping + kPage, begin - a.mapping - kPage);
    poison(begin + bytes, closedEnd(a) - begin - bytes);
  } else {
    memset(begin - kCanaryBytes, kCanary, kCanaryBytes);
    memset(begin + bytes, kCanary, closedEnd(a) - begin - bytes);
  }
  allocations[a.address] = a;
  return begin;
}

void release(const Allocation& a) {
  forgetLookups();
  if (a.mapping == nullptr) return;
  unpoison(a.mapping, a.mappingBytes);
  munmap(a.mapping, a.mappingBytes);
}

bool intact(const uint8_t* bytes, size_t count) {
  return std::all_of(bytes, bytes + count, [](uint8_t byte) { return byte == kCanary; });
}

const char* nameOf(MemoryKind kind) {
  return kind == MemoryKind::kDevice ? "device" : "host";
}

}  // namespace

const Allocation* findAllocation(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  const Allocation& a = std::prev(next)->second;
  return address - a.address < a.bytes ? &a : nullptr;
}

bool isAllocated(const void* pointer, size_t bytes) {
  const Allocation* a = findAllocation(pointer);
  return a != nullptr && reinterpret_cast<uintptr_t>(pointer) + bytes <= a->address + a->bytes;
}

Access accessTo(const void* pointer, size_t bytes) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address >= lastFound && address + bytes <= lastFoundEnd) return lastAccess;
  const Allocation* a = findAllocation(pointer);
  if (a == nullptr || address + bytes > a->address + a->bytes) return {};
  lastFound = a->address;
  lastFoundEnd = a->address + a->bytes;
  lastAccess = {~uint64_t{0}, -1};
  if (a->kind == MemoryKind::kDevice) lastAccess = {usersOf(a->device), a->device};
  return lastAccess;
}

void forgetLookups() {
  lastFound = lastFoundEnd = 0;
}

const char* describeAddress(const void* pointer) {
  static char text[160];
  tsanAcquire(text);
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto next = allocations.upper_bound(address);
  constexpr uintptr_t kNear = 1 << 20;
  snprintf(text, sizeof text, "where no device memory is allocated");
  if (next != allocations.end() && next->first - address <= kNear)
    snprintf(text, sizeof text, "%zu bytes ahead of %zu bytes of %s memory", next->first - address, next->second.bytes,
             nameOf(next->second.kind));
  if (next == allocations.begin()) return tsanRelease(text), text;
  const Allocation& a = std::prev(next)->second;
  if (address - a.address < a.bytes)
    snprintf(text, sizeof text, "at offset %zu of %zu bytes of %s memory", address - a.address, a.bytes,
             nameOf(a.kind));
  else if (address - a.address - a.bytes <= kNear)
    snprintf(text, sizeof text, "%zu bytes behind the end of %zu bytes of %s memory", address - a.address - a.bytes,
             a.bytes, nameOf(a.kind));
  return tsanRelease(text), text;
}

const char* damagedAllocation(int* owner) {
  if (kAsan) return nullptr;
  static char text[160];
  for (auto& [address, a] : allocations) {
    if (a.mapping == nullptr) continue;
    auto* begin = reinterpret_cast<uint8_t*>(address);
    const size_t gap = closedEnd(a) - begin - a.bytes;
    const bool below = intact(begin - kCanaryBytes, kCanaryBytes);
    if (below && intact(begin + a.bytes, gap)) continue;
    *owner = a.device;
    snprintf(text, sizeof text, "a write just %s %zu bytes of %s memory", below ? "behind" : "ahead of", a.bytes,
             nameOf(a.kind));
    memset(begin - kCanaryBytes, kCanary, kCanaryBytes);
    memset(begin + a.bytes, kCanary, gap);
    return text;
  }
  return nullptr;
}

void freeMemoryOf(int owner) {
  std::erase_if(allocations, [=](const auto& entry) {
    if (entry.second.device != owner) return false;
    release(entry.second);
    return true;
  });
  deviceBytes[owner] = 0;
}

void freeAllMemory() {
  for (int i = 0; i < kMaxDevices; ++i) freeMemoryOf(i);
}

namespace {

cudaError_t allocateHost(void** pointer, size_t bytes) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
  *pointer = bytes == 0 ? nullptr : allocate(bytes, MemoryKind::kPinned);
  return bytes == 0 || *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

// Waits for the device's work first, as CUDA does: it may use the memory.
cudaError_t freeKind(void* pointer, MemoryKind kind) {
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t status = refuseWhileCapturing(); status != cudaSuccess) return status;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto found = allocations.find(address);
  if (found == allocations.end() || found->second.kind != kind) return cudaErrorInvalidValue;
  const cudaError_t status = finishDevice(found->second.device);
  found = allocations.find(address);  // other host threads were in meanwhile
  if (found == allocations.end()) return cudaErrorInvalidValue;
  if (kind == MemoryKind::kDevice) deviceBytes[found->second.device] -= roundUp(found->second.bytes, 512);
  release(found->second);
  allocations.erase(found);
  return status;
}

}  // namespace
}  // namespace emulator

using emulator::call;
using emulator::MemoryKind;

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call(__func__, [&] {
    *total = emulator::device.memoryBytes;
    const size_t used = emulator::deviceBytes[emulator::currentDevice()];
    *free = used < *total ? *total - used : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call("cudaMalloc", [&] {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (const cudaError_t status = emulator::refuseWhileCapturing(); status != cudaSuccess) return status;
    if (bytes == 0) return cudaSuccess;
    size_t& used = emulator::deviceBytes[emulator::currentDevice()];
    if (bytes > emulator::device.memoryBytes || used + emulator::roundUp(bytes, 512) > emulator::device.memoryBytes)
      return cudaErrorMemoryAllocation;
    *pointer = emulator::allocate(bytes, MemoryKind::kDevice);
    if (*pointer == nullptr) return cudaErrorMemoryAllocation;
    used += emulator::roundUp(bytes, 512);
    return cudaSuccess;
  });
}
cudaError_t cudaFree(void* pointer) {
  return call(__func__, [&] { return emulator::freeKind(pointer, MemoryKind::kDevice); });
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return call("cudaMallocHost", [&] { return emulator::allocateHost(pointer, bytes); });
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return call("cudaHostAlloc", [&] { return emulator::allocateHost(pointer, bytes); });
}
cudaError_t cudaFreeHost(void* pointer) {
  return call(__func__, [&] { return emulator::freeKind(pointer, MemoryKind::kPinned); });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
  return call(__func__, [&] {
    if (pointer == nullptr || bytes == 0) return cudaErrorInvalidValue;
    if (emulator::findAllocation(pointer) != nullptr) return cudaErrorHostMemoryAlreadyRegistered;
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    emulator::allocations[address] = {address, bytes, MemoryKind::kRegistered, emulator::currentDevice(), nullptr, 0};
    return cudaSuccess;
  });
}
cudaError_t cudaHostUnregister(void* pointer) {
  return call(__func__, [&] {
    const auto found = emulator::allocations.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == emulator::allocations.end() || found->second.kind != MemoryKind::kRegistered)
      return cudaErrorHostMemoryNotRegistered;
    emulator::release(found->second);
    emulator::allocations.erase(found);
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetDevicePointer(void** mapped, void* host, unsigned) {
  return call(__func__, [&] {
    const emulator::Allocation* a = emulator::findAllocation(host);
    if (a == nullptr || a->kind == MemoryKind::kDevice) return cudaErrorInvalidValue;
    *mapped = host;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call(__func__, [&] {
    const emulator::Allocation* a = emulator::findAllocation(pointer);
    auto* address = const_cast<void*>(pointer);
    if (a == nullptr)
      *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
    else if (a->kind == MemoryKind::kDevice)
      *attributes = {cudaMemoryTypeDevice, a->device, address, nullptr};
    else
      *attributes = {cudaMemoryTypeHost, a->device, address, address};
    return cudaSuccess;
  });
}
