#pragma once

#include <cstdint>
#include <string>

namespace shardspeed {

// Bytes of memory that this process can still allocate before the system kills a process for lack of memory. Limits of
// its control groups (cgroups of version 1 or 2, as containers have) count; files in the page cache count as free.
// root: put before /proc and /sys, for tests. Returns the largest number of its type if the system tells nothing.
uint64_t availableMemoryBytes(const std::string& root = "");

}  // namespace shardspeed
