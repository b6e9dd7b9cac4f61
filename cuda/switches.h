#pragma once

namespace shardspeed::cuda {

// What the environment switches off, for finding faults (docs/cuda.md).

bool graphsWanted();   // SHARDSPEED_CUDA_GRAPHS=0
bool overlapWanted();  // SHARDSPEED_CUDA_PDL=0
bool libraryWanted();  // SHARDSPEED_CUDA_GEMM=own

}  // namespace shardspeed::cuda
