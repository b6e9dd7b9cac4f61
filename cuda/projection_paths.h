#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "cuda/projection.h"

// The kernels behind project(). Which one computes a row changes how fast it comes, never its bits.

namespace shardspeed::cuda {

struct Product;

// That projectFew takes on the current device.
int64_t mostFewTokens();

// Whether projectFew can normalise so many rows of the stream itself.
bool canNormalizeFew(int64_t tokens, int64_t inFeatures);
// For 1 ... mostFewTokens() tokens. product.in is the stream where fused: canNormalizeFew.
void projectFew(DType dtype, const Product& product, bool fused, const NormParams* norm, int64_t inFeatures,
                cudaStream_t stream);
// For any number of tokens.
void projectMany(DType dtype, const Product& product, cudaStream_t stream);

// Of the current device.
int deviceAttribute(cudaDeviceAttr attribute);
int multiprocessors();

}  // namespace shardspeed::cuda
