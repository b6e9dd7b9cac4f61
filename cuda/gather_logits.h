#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/all_reduce.h"

// Brings the logits that ranks have computed, some columns each, together on rank 0.

namespace shardspeed::cuda {

// The columns of one rank. Where ranks push, rank 0 says when there is room for another's part, the other stores it
// there and says so, block by block: by flags, one a block, each in the memory of whoever waits for it.
constexpr int kMostGatherBlocks = 16;  // of a part
struct LogitPart {
  const float* from = nullptr;  // (rows, stride) in rank 0's memory; null for rank 0's own
  uint32_t* room = nullptr;     // (kMostGatherBlocks) in the other's memory
  uint32_t* there = nullptr;    // (kMostGatherBlocks) in rank 0's
  int32_t stride = 0;           // in elements, a multiple of 4
  int32_t firstCol = 0;
  int32_t cols = 0;
};

struct Whole {
  int64_t rows = 0;
  const float* own = nullptr;  // rank 0's part
  float* out = nullptr;        // (rows, stride), of all columns
  int64_t stride = 0;
  const LogitPart* parts = nullptr;  // (ranks), device memory
  int ranks = 0;
  int blocks = 0;  // of each part, on all ranks alike; <= kMostGatherBlocks
  cudaStream_t stream = nullptr;
};
// Rank 0, where the parts are there already.
void joinLogits(const Whole& whole);
// Rank 0, where the others push theirs: waits for them.
void takeLogits(const Whole& whole, PushCounts* counts, const uint32_t* stop);

struct PushedPart {
  const float* part = nullptr;
  int64_t count = 0;               // of floats, a multiple of 4: rows with their padding
  float* to = nullptr;             // in rank 0's memory
  const uint32_t* room = nullptr;  // (blocks), own memory
  uint32_t* there = nullptr;       // (blocks), in rank 0's memory
  int blocks = 0;
  cudaStream_t stream = nullptr;
};
// All other ranks.
void pushLogits(const PushedPart& part, PushCounts* counts, const uint32_t* stop);

}  // namespace shardspeed::cuda
