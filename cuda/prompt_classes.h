#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

namespace shardspeed::cuda {

// How the products of a prompt's rows are computed where cuBLASLt is in use. The length of the whole prompt decides,
// and nothing else: bits would change with the chunk that a row comes in, or with what comes beside it.
//
// - A short prompt is computed as generated tokens are: a step then reads each matrix once for both.
// - For a prompt of some hundred tokens, an algorithm for thousands has too large tiles: of 128 x 256, 100 rows of a
//   matrix with 4,096 are 32 of them, for the 132 multiprocessors of an H200. So it gets an algorithm of its own.
//
// Prompts of two classes cannot share pages of the KV cache, and where both are in a step it reads matrices once more,
// so there are few classes.
struct PromptClass {
  int64_t mostTokens;   // of the prompt
  int64_t plannedRows;  // MatmulShape's; 0 = our kernels
};

// By SequenceSlice::promptClass.
inline constexpr PromptClass kPromptClasses[] = {{INT64_MAX, 2048}, {512, 256}, {64, 0}};
inline constexpr size_t kPromptClassCount = std::size(kPromptClasses);

// Rows of a step, by the class of their prompts.
using PromptRows = std::array<int64_t, kPromptClassCount>;

// Backend::promptLimits(), of all classes but the first.
inline std::vector<int64_t> promptLimits() {
  std::vector<int64_t> limits;
  for (size_t i = 1; i < kPromptClassCount; ++i) limits.push_back(kPromptClasses[i].mostTokens);
  return limits;
}

}  // namespace shardspeed::cuda
