#include <cuda_runtime.h>

#include "cuda/error.h"
#include "cuda/norm.cuh"
#include "cuda/projection.cuh"
#include "cuda/projection_paths.h"

// Chooses how a product is computed. What decides is speed alone: a row's bits are the same in all ways.

namespace shardspeed::cuda {

int deviceAttribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

int multiprocessors() {
  return deviceAttribute(cudaDevAttrMultiProcessorCount);
}

size_t mostSharedBytes() {
  return static_cast<size_t>(deviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

void project(const ProjectionParams& params) {
  if (params.rows <= 0 || params.outFeatures <= 0) return;
  const int64_t columns = padTo(params.inFeatures, kColumnStep);
  Product product;
  product.weight = params.weight;
  product.in = params.in;
  product.inStride = params.inStride;
  product.tokens = static_cast<int>(params.rows);
  product.weightRows = static_cast<int>(params.outFeatures);
  product.paddedRows = static_cast<int>(padTo(params.outFeatures, kRowStep));
  product.blocks = static_cast<int>(columns / kBlockColumns);
  product.finish.bias = params.bias;
  product.finish.out = params.out;
  product.finish.outStride = params.outStride;
  product.finish.outCols = static_cast<int>(params.gated ? params.outFeatures / 2 : params.outFeatures);
  product.finish.activation = params.activation;
  product.finish.gated = params.gated;
  product.finish.wide = params.outKind == RowKind::kStream;
  product.finish.residual = params.residual;

  bool fused = false;
  if (params.inKind == RowKind::kStream) {
    fused = canNormalizeFew(params.rows, params.inFeatures);
    if (!fused) {
      normalizeRows(params.dtype, params.rows, params.inFeatures, static_cast<const float*>(params.in), params.inStride,
                    params.norm, params.scratch, columns, params.stream);
      product.in = params.scratch;
      product.inStride = columns;
    }
  }
  if (params.rows <= mostFewTokens())
    projectFew(params.dtype, product, fused, params.norm, params.inFeatures, params.stream);
  else
    projectMany(params.dtype, product, params.stream);
}

}  // namespace shardspeed::cuda
