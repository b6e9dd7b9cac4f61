#pragma once

#include <cstddef>

namespace shardspeed {

// The machine's limits, to hold speeds against. Best of `rounds`.
double measureReadBandwidth(size_t bytes, int threads, int rounds);  // bytes per second
double measureFmaPeak(int threads, int rounds);  // fp32 operations per second, on the chosen kernels

}  // namespace shardspeed
