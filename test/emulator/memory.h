#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime_types.h"

// Device memory and pinned host memory.

namespace emulator {

enum class MemoryKind { kDevice, kPinned, kRegistered };

struct Allocation {
  uintptr_t address = 0;
  size_t bytes = 0;
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;
  uint8_t* mapping = nullptr;  // with the pages around it that may not be touched
  size_t mappingBytes = 0;
};

// [address, address + bytes) lies in one allocation that kernels may use.
bool isAllocated(const void* address, size_t bytes);
// The allocation that address lies in; null if none does.
const Allocation* findAllocation(const void* address);
// Where address is, by the allocation nearest to it. Valid until the next call.
const char* describeAddress(const void* address);
// Who may use [address, address + bytes).
struct Access {
  uint64_t users = 0;  // devices whose kernels may, a bit each: none where it is not in one allocation
  int owner = -1;      // the device whose memory it is, -1 for host memory
};
Access accessTo(const void* address, size_t bytes);
// What answers were remembered for has changed.
void forgetLookups();
// A write just before or behind an allocation since the last look, if any: what to say of it, else null. On which
// device.
const char* damagedAllocation(int* device);
void freeMemoryOf(int device);
void freeAllMemory();

}  // namespace emulator
