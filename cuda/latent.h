#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend.h"

// Heads of latent attention (DeepSeek), between their projections and attention: Backend::joinHeads and narrowHeads.

namespace shardspeed::cuda {

// Rows of 16-bit elements, whatever their type: they are moved, not computed with.
struct ElementRows {
  void* data = nullptr;
  int64_t stride = 0;  // in elements, a multiple of 8
};

// qkv (rows, 3 heads headDim) of queries (rows, heads headDim), sharedKeys (rows, positionDims) and keysValues
// (rows, heads (headDim - positionDims) + heads valueDim).
void joinHeads(const LatentHeads& shape, int64_t rows, const ElementRows& queries, const ElementRows& sharedKeys,
               const ElementRows& keysValues, const ElementRows& qkv, cudaStream_t stream);
// out (rows, heads valueDim) = the first valueDim elements of each head of in (rows, heads headDim).
void narrowHeads(const LatentHeads& shape, int64_t rows, const ElementRows& in, const ElementRows& out,
                 cudaStream_t stream);

}  // namespace shardspeed::cuda
