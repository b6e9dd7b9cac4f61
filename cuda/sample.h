#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// Choosing the next tokens on the device, and scoring those that are known: the semantics of runtime/sampler.h and
// runtime/token_scores.h, which are the reference.

namespace shardspeed::cuda {

constexpr int kMostLogprobs = 64;

// One row's wishes; SamplingParams without its vectors.
struct SampleRow {
  float temperature;  // 0 = greedy
  int32_t topK;       // 0 = off
  float topP;         // 1 = off
  float minP;         // 0 = off
  float repetitionPenalty;
  float presencePenalty;
  float frequencyPenalty;
  int32_t logprobs;  // -1 = none; <= kMostLogprobs
  uint64_t seed;
  uint64_t counter;    // new tokens so far: which draw of the seed this is
  int32_t firstCount;  // of its entries in the list of counts
  int32_t countEntries;
  int32_t firstBanned;  // of its entries in the list of tokens that may not be chosen
  int32_t bannedEntries;
  int32_t firstBias;  // of its entries in the list of biases
  int32_t biasEntries;
  int32_t mask = -1;     // its place among the masks, -1 = every token may be chosen
  int32_t unknown = -1;  // countTokens: SamplingState's
};

// How often a token is among the sequence's new tokens; 0 = in its prompt only. Not sorted, no token twice in a row's
// list.
struct TokenCount {
  int32_t token;
  int32_t count;
  float unchanged;  // written by sampleRows where logprobs >= 0: the token's logit before the penalties
};

// No token twice in a row's list.
struct BiasEntry {
  int32_t token;
  float bias;
  float unchanged;  // as TokenCount's
};

// The lists, in device memory, that rows point into. A mask has maskWords(vocab) words and allows at least one token.
struct SampleLists {
  const SampleRow* rows;
  TokenCount* counts;
  const int32_t* banned;
  BiasEntry* biases;
  const int32_t* masks;
};

struct SampleTop {
  int32_t token;
  float logprob;
};

struct SampleResult {
  int32_t finite;  // 0: the logits held NaN or infinity, and no token was chosen
  int32_t token;
  float logprob;  // of the unchanged distribution, where logprobs >= 0
  int32_t topCount;
  SampleTop top[kMostLogprobs];  // largest first; ties: the smaller token id first
};

size_t sampleWorkspaceBytes(int64_t count, int64_t vocab);
// results, workspace: device memory; what the workspace holds does not matter. logits (count,
// stride) fp32 are changed; rows start at multiples of 16 bytes. Nothing waits for the device, so a graph may hold it.
// plain: every row is greedy, without masks, biases, penalties, bans and logprobs (the lists are not read): two light
// kernels. Throws ERR_INVALID_ARGUMENT for more than 2^20 tokens.
void sampleRows(float* logits, int64_t stride, int64_t vocab, int64_t count, bool plain, const SampleLists& lists,
                SampleResult* results, void* workspace, cudaStream_t stream);

// ScoreWish.
struct ScoreRow {
  int32_t token;
  int32_t top;  // <= kMostLogprobs
};

struct ScoreResult {
  int32_t rank;        // 1 = the likeliest
  SampleResult token;  // the row's own one; `finite` and what the unchanged distribution says
};

// The same of rows whose tokens are known: the log-probability and the rank of each, and the likeliest. The logits stay
// as they are. Workspace as above.
void scoreRows(const float* logits, int64_t stride, int64_t vocab, int64_t count, const ScoreRow* rows,
               ScoreResult* results, void* workspace, cudaStream_t stream);

}  // namespace shardspeed::cuda
