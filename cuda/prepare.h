#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>

#include "cuda/attention.h"
#include "cuda/projection.h"
#include "cuda/step_view.h"

// Some models change queries, keys and values ahead of attention: by norms, limits and a temperature.

namespace shardspeed::cuda {

struct HeadNorms {
  bool on = false;
  bool ofRows = false;  // all heads of a token together, else each for itself
  bool apart = false;   // each head has weights of its own
  bool after = false;   // behind the turning of rotary positions, which is done here then
  NormParams query;
  NormParams key;
  // (rows, squaresStride): the sum of the squares of a row's queries, then that of its keys. Set where several ranks
  // hold the heads of a row that is normalised as a whole.
  const float* squares = nullptr;
  int64_t squaresStride = 0;
  int allHeads = 0;
  int allKvHeads = 0;
};

struct PrepareParams {
  AttentionParams attention;  // what shape qkv has and how it turns
  HeadNorms norms;
  float clamp = 0;  // q, k and v are limited to [-clamp, clamp]; 0 = off
  std::optional<QueryTemperature> temperature;
};

// Changes qkv, rows [0, rows) of the step; those of position -1 are skipped.
void prepareHeads(const PrepareParams& params, const StepView& step, int64_t rows, cudaStream_t stream);

// squares (rows, squaresStride): the sums of the squares of the first `queries` elements of a row, and of the `keys`
// behind them.
void squareHeads(DType dtype, int64_t rows, const void* qkv, int64_t stride, int64_t queries, int64_t keys,
                 float* squares, int64_t squaresStride, cudaStream_t stream);

}  // namespace shardspeed::cuda
