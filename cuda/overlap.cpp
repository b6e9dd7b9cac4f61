#include "cuda/overlap.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <string>

#include "cuda/error.h"

namespace shardspeed::cuda {

bool canOverlap() {
  static const bool wanted = [] {
    const char* value = std::getenv("SHARDSPEED_CUDA_PDL");
    return !value || std::string(value) != "0";
  }();
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  return wanted && major >= 9;
}

}  // namespace shardspeed::cuda
