#pragma once

#include <cstdint>

namespace shardspeed::cuda {

// What the environment switches off, for finding faults (docs/cuda.md).

bool graphsWanted();   // SHARDSPEED_CUDA_GRAPHS=0
bool overlapWanted();  // SHARDSPEED_CUDA_PDL=0
bool libraryWanted();  // SHARDSPEED_CUDA_GEMM=own
bool ncclWanted();     // SHARDSPEED_CUDA_NCCL=0
bool aheadWanted();    // SHARDSPEED_CUDA_AHEAD=0
// Sums over ranks of at most so many bytes are pushed where they can be; NCCL is for the others.
// SHARDSPEED_CUDA_PUSH_BYTES=0 pushes nothing.
int64_t mostPushedBytes();

}  // namespace shardspeed::cuda
