#include "cuda/error.h"

#include <string>

#include "base/error.h"

namespace shardspeed::cuda {

void check(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  const std::string found =
      std::string(operation) + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status);
  if (status == cudaErrorMemoryAllocation) throw Error("ERR_OUT_OF_MEMORY", found);
  throw Error("ERR_CUDA", found);
}

}  // namespace shardspeed::cuda
