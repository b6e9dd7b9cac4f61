#pragma once

#include <cstdint>

#include "cuda/projection.h"

namespace shardspeed::cuda {

// What follows a product that a library computed: bias, activation, gate. product T (rows, productStride) holds all
// outFeatures columns, and may be params.out itself where the product is not gated. params.out is T.
void finishRows(const ProjectionParams& params, const void* product, int64_t productStride);

}  // namespace shardspeed::cuda
