#include "cuda/overlap.h"

#include <cuda_runtime.h>

#include "cuda/error.h"
#include "cuda/switches.h"

namespace shardspeed::cuda {

bool canOverlap() {
  static const bool wanted = overlapWanted();  // asked at every launch
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  return wanted && major >= 9;
}

}  // namespace shardspeed::cuda
