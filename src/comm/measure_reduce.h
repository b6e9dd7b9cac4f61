#pragma once

#include <cstdint>

namespace shardspeed {

// Median seconds of an all-reduce of so many bytes among ranks that are threads, each with one thread of its own and
// rows of 4 KB (fewer bytes are one row), over `rounds` of them; the ranks come at the same time.
double measureAllReduce(int ranks, int64_t bytes, int rounds);

// Median seconds of copying so many bytes, for comparison.
double measureCopy(int64_t bytes, int rounds);

}  // namespace shardspeed
