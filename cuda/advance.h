#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/sample.h"

// The tokens that were chosen behind one step, brought to where the next one looks its tokens up, without the host.

namespace shardspeed::cuda {

// tokenIds[row] = the token of results[index], where it is chosenToken(index).
void placeTokens(const SampleResult* results, int64_t rows, int32_t* tokenIds, cudaStream_t stream);

// Adds the tokens that rows do not know yet (SampleRow::unknown) to their counts. The last entry of such a row's list
// is free: it holds no token.
void countTokens(const SampleRow* rows, TokenCount* counts, const SampleResult* results, int64_t count,
                 cudaStream_t stream);

// Among ranks the first alone knows what was chosen. It spells tokens in digits of 8 bits, which numbers of 16 bits
// hold exactly; the others write zeros, and the sum over ranks brings the digits to all of them.
constexpr int kTokenDigits = 3;
// digits (count), zeros behind those of the rows. tokenIds null = zeros alone.
void spellTokens(const int32_t* tokenIds, int64_t rows, float* digits, int64_t count, cudaStream_t stream);
// tokenIds[row] = the token that is spelled, where it is chosenToken().
void readTokens(const float* digits, int64_t rows, int32_t* tokenIds, cudaStream_t stream);

}  // namespace shardspeed::cuda
