#pragma once

#include <cstdint>
#include <string>

namespace shardspeed {

// The bytes of memory that this process could still take before the system, or a limit of one of its control groups
// (cgroups of version 1 or 2, as containers have), would end a process for them; files in the page cache count as free.
// root: before /proc and /sys, for tests. The largest number there is where nothing is known.
uint64_t availableMemoryBytes(const std::string& root = "");

}  // namespace shardspeed
