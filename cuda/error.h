#pragma once

#include <cuda_runtime.h>

namespace shardspeed::cuda {

// Throws ERR_CUDA, or ERR_OUT_OF_MEMORY where that was it, naming the operation and what CUDA said.
void check(cudaError_t status, const char* operation);

}  // namespace shardspeed::cuda
