#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend.h"

namespace shardspeed {

// The machine's limits, to hold speeds against. Best of `rounds`.
double measureReadBandwidth(size_t bytes, int threads, int rounds);  // bytes per second
double measureFmaPeak(int threads, int rounds);  // fp32 operations per second, on the chosen kernels

// Median seconds of an all-reduce of so many bytes among ranks that are threads, each with one thread of its own and
// rows of 4 KB (fewer bytes are one row), over `rounds` of them; the ranks come at the same time.
double measureAllReduce(int ranks, int64_t bytes, int rounds);

// Median seconds of copying so many bytes, for comparison.
double measureCopy(int64_t bytes, int rounds);

// The attention of a step: `rows` new tokens of each sequence, whose context ends with them.
struct AttentionSize {
  AttentionShape shape;
  int64_t layers = 1;
  int64_t sequences = 1;
  int64_t context = 1;
  int64_t rows = 1;
};

// In seconds, one of each a round, by turns.
struct AttentionTimes {
  std::vector<double> attend;  // of all layers
  std::vector<double> read;    // of as many bytes as the layers' keys and values have, from memory like that of weights
  size_t bytes = 0;            // of them
};
AttentionTimes measureAttention(const AttentionSize& size, int threads, int rounds);

}  // namespace shardspeed
