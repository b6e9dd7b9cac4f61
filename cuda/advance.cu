#include "cuda/advance.h"

#include "backend.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// A thread takes a row, or a digit of one; counts, which are many, take a block a row. Each launch moves some bytes a
// row and is there for its order alone: behind the kernels that choose tokens, ahead of the one that looks them up,
// with nothing in between that waits for the host.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kDigitBits = 8;
static_assert(chosenToken(0) == -2 && chosenToken(5) == -7 && !isChosenToken(-1));

// The index that chosenToken() holds; below 0: none.
__device__ __forceinline__ int32_t chosenIndex(int32_t id) {
  return -2 - id;
}

__global__ void __launch_bounds__(kThreads)
    placeTokensKernel(const SampleResult* results, int rows, int32_t* tokenIds) {
  pdlWait();
  pdlTrigger();
  const int row = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (row >= rows) return;
  const int32_t index = chosenIndex(tokenIds[row]);
  if (index >= 0) tokenIds[row] = results[index].token;
}

__global__ void __launch_bounds__(kThreads)
    spellTokensKernel(const int32_t* tokenIds, int rows, float* digits, int count) {
  pdlWait();
  pdlTrigger();
  const int at = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (at >= count) return;
  const int row = at / kTokenDigits, digit = at % kTokenDigits;
  const int32_t token = tokenIds != nullptr && row < rows ? tokenIds[row] : 0;
  digits[at] = token > 0 ? static_cast<float>(token >> (kDigitBits * digit) & ((1 << kDigitBits) - 1)) : 0.0f;
}

__global__ void __launch_bounds__(kThreads) readTokensKernel(const float* digits, int rows, int32_t* tokenIds) {
  pdlWait();
  pdlTrigger();
  const int row = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (row >= rows || chosenIndex(tokenIds[row]) < 0) return;
  int32_t token = 0;
  for (int digit = kTokenDigits - 1; digit >= 0; --digit)
    token = (token << kDigitBits) + static_cast<int32_t>(digits[row * kTokenDigits + digit]);
  tokenIds[row] = token;
}

// A block a row: a list is as long as a prompt has different tokens.
struct CountScratch {
  int found;
};
__global__ void __launch_bounds__(kThreads)
    countTokensKernel(const SampleRow* rows, TokenCount* counts, const SampleResult* results) {
  CountScratch& scratch = sharedMemory<CountScratch>();
  pdlWait();
  pdlTrigger();
  const SampleRow& row = rows[blockIdx.x];
  if (row.unknown < 0) return;
  const int32_t token = results[row.unknown].token;
  TokenCount* list = counts + row.firstCount;
  const int32_t last = row.countEntries - 1;
  if (threadIdx.x == 0) scratch.found = 0;
  __syncthreads();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < last; i += kThreads) {
    if (list[i].token != token) continue;
    ++list[i].count;
    scratch.found = 1;
  }
  __syncthreads();
  if (threadIdx.x == 0 && scratch.found == 0) list[last] = {token, 1, 0};
}

LaunchConfig configFor(const char* name, int64_t count, cudaStream_t stream) {
  return {name, dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream};
}

}  // namespace

void placeTokens(const SampleResult* results, int64_t rows, int32_t* tokenIds, cudaStream_t stream) {
  launch(placeTokensKernel, configFor("placing chosen tokens", rows, stream), results, static_cast<int>(rows),
         tokenIds);
}

void countTokens(const SampleRow* rows, TokenCount* counts, const SampleResult* results, int64_t count,
                 cudaStream_t stream) {
  const LaunchConfig config{"counting chosen tokens", dim3(static_cast<unsigned>(count)), dim3(kThreads),
                            sizeof(CountScratch), stream};
  launch(countTokensKernel, config, rows, counts, results);
}

void spellTokens(const int32_t* tokenIds, int64_t rows, float* digits, int64_t count, cudaStream_t stream) {
  launch(spellTokensKernel, configFor("sharing chosen tokens", count, stream), tokenIds, static_cast<int>(rows), digits,
         static_cast<int>(count));
}

void readTokens(const float* digits, int64_t rows, int32_t* tokenIds, cudaStream_t stream) {
  launch(readTokensKernel, configFor("sharing chosen tokens", rows, stream), digits, static_cast<int>(rows), tokenIds);
}

}  // namespace shardspeed::cuda
