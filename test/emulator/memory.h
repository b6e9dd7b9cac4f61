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
// A write just before or behind an allocation since the last look, if any: what to say of it, else null.
const char* damagedAllocation();
void freeAllMemory();

}  // namespace emulator
