#pragma once

#include <cstdint>
#include <string>

namespace shardspeed {

// lib/base/machine.ts reads the same for plans. root: put before /proc and /sys, for tests.

// Bytes of memory that this process can still allocate before the system kills a process for lack of memory. Limits of
// all control groups around it count (cgroups of version 1 or 2, as containers have); files in the page cache count as
// free. Returns the largest number of its type if the system tells nothing.
uint64_t availableMemoryBytes(const std::string& root = "");

// Processors whose time this process may take: those that it may run on, or what the quotas of its control groups are
// worth if that is less. At least 1.
int availableProcessors(const std::string& root = "");

}  // namespace shardspeed
