#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.h"
#include "cuda/step_view.h"
#include "model/spec.h"

// Copies of rows: embeddings, and the rows whose logits are wanted.

namespace shardspeed::cuda {

// A table of embeddings: those of tokens firstToken ... firstToken + tokens - 1.
struct TokenTable {
  const void* data = nullptr;  // T (tokens, stride)
  int64_t stride = 0;
  int64_t firstToken = 0;
  int64_t tokens = 0;
};

// out[row] = table[tokenIds[row] - firstToken], zeros where the token is not in the table. out T, or fp32 where `wide`.
// Columns [cols, outStride) are not written. Rows of position -1 are skipped in all four.
void embedTokens(DType dtype, const StepView& step, int64_t rows, int64_t cols, const TokenTable& table, void* out,
                 int64_t outStride, bool wide, cudaStream_t stream);
// The same, times scale.
void embedScaledTokens(DType dtype, const StepView& step, int64_t rows, int64_t cols, const TokenTable& table,
                       float scale, void* out, int64_t outStride, bool wide, cudaStream_t stream);
// out[row] += table[indices[row] + offset], out fp32. indices: of the step, positions or token types.
void addTableRows(DType dtype, const StepView& step, int64_t rows, int64_t cols, const void* table, int64_t tableStride,
                  const int32_t* indices, int64_t offset, float* out, int64_t outStride, cudaStream_t stream);
// out[i] = in[indices[i]], fp32; entries < 0 are skipped
void gatherRows(const int32_t* indices, int64_t count, int64_t cols, const float* in, int64_t inStride, float* out,
                int64_t outStride, cudaStream_t stream);
// x[i] = softCap tanh(scale x[i] / softCap), or scale x[i] where softCap is 0; fp32
void scaleLogits(int64_t rows, int64_t cols, float scale, float softCap, float* x, int64_t stride, cudaStream_t stream);
// x[i] = xIELU(x[i]), T
void applyXielu(DType dtype, int64_t rows, int64_t cols, XieluNumbers numbers, void* x, int64_t stride,
                cudaStream_t stream);
// out[i] = fp32(in[i]): for reading rows of T back (tests)
void widenRows(DType dtype, int64_t rows, int64_t cols, const void* in, int64_t inStride, float* out, int64_t outStride,
               cudaStream_t stream);

}  // namespace shardspeed::cuda
