#pragma once

#include <cstddef>
#include <cstdint>

namespace shardspeed {

// The machine's limits, to hold speeds against. Best of `rounds`.
double measureReadBandwidth(size_t bytes, int threads, int rounds);  // bytes per second
double measureFmaPeak(int threads, int rounds);  // fp32 operations per second, on the chosen kernels

// Median seconds of an all-reduce of so many bytes among ranks that are threads, each with one thread of its own and
// rows of 4 KB (fewer bytes are one row), over `rounds` of them; the ranks come at the same time.
double measureAllReduce(int ranks, int64_t bytes, int rounds);

// Median seconds of copying so many bytes, for comparison.
double measureCopy(int64_t bytes, int rounds);

}  // namespace shardspeed
