#include "cuda/advance.h"

#include "backend.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

// A thread takes a row, or a digit of one. Each launch moves some bytes a row and is there for its order alone: behind
// the kernels that choose tokens, ahead of the one that looks them up, with nothing in between that waits for the host.

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

LaunchConfig configFor(const char* name, int64_t count, cudaStream_t stream) {
  return {name, dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)), dim3(kThreads), 0, stream};
}

}  // namespace

void placeTokens(const SampleResult* results, int64_t rows, int32_t* tokenIds, cudaStream_t stream) {
  launch(placeTokensKernel, configFor("placing chosen tokens", rows, stream), results, static_cast<int>(rows),
         tokenIds);
}

void spellTokens(const int32_t* tokenIds, int64_t rows, float* digits, int64_t count, cudaStream_t stream) {
  launch(spellTokensKernel, configFor("sharing chosen tokens", count, stream), tokenIds, static_cast<int>(rows), digits,
         static_cast<int>(count));
}

void readTokens(const float* digits, int64_t rows, int32_t* tokenIds, cudaStream_t stream) {
  launch(readTokensKernel, configFor("sharing chosen tokens", rows, stream), digits, static_cast<int>(rows), tokenIds);
}

}  // namespace shardspeed::cuda
