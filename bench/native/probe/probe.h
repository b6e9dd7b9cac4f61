#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

// What kernels for sm_90a would rest on, measured before they are written. A program of its own, since nothing else of
// the backend is compiled for sm_90a.

namespace probe {

inline void check(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "gpu_probe: %s: %s\n", operation, cudaGetErrorString(status));
  std::exit(1);
}

// Whether a sum has the same bits in instructions of 8, 64 and 192 columns, and as mma.sync has them. False where wgmma
// does not even compute the product.
bool compareBits();
// Bandwidth of rings by cp.async and by bulk copies, beside a plain read.
void measureRings();

}  // namespace probe
