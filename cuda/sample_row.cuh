#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/sample_select.cuh"

// How the kernels of cuda/sample.cu cut a row into chunks, what they leave each other in the workspace, and what every
// one of them derives from it.

namespace shardspeed::cuda {

constexpr int kChunk = 4096;
constexpr int kChunkThreads = 256;
constexpr int kSegment = 512;
constexpr int kSegmentsPerChunk = kChunk / kSegment;
constexpr int64_t kMostVocab = 1 << 20;  // sums of weights fit in 64 bits

static_assert(kSegmentsPerChunk == kChunkThreads / 32);
static_assert(kBins % kChunkThreads == 0);
static_assert(sizeof(SelectScratch) <= 48 << 10);

// What the survey found in a chunk.
struct Chunk {
  uint64_t best;           // least order after penalties
  uint64_t unchangedBest;  // before them
  uint64_t mass;           // of exp(logit - largest of the chunk), before penalties; where logprobs >= 0
  uint32_t unsound;        // NaN or +infinity
  uint32_t possible;       // larger than -infinity
  float firstUnchanged;    // the first token's logit before penalties
  int32_t topCount;
  uint32_t before;  // tokens that come before the row's own one, where that is scored
};

// The part of the workspace of one row.
struct RowSpace {
  Chunk* chunks;
  uint64_t* tops;               // (chunks, kMostLogprobs) orders, ascending
  uint64_t* segments;           // masses
  unsigned long long* binMass;  // (kBins)
  uint32_t* binCount;           // (kBins)
};

struct Problem {
  float* logits;
  int64_t stride;
  int32_t vocab;
  int32_t chunks;
  SampleLists lists;
  SampleResult* results;
  unsigned char* workspace;
};

__host__ __device__ __forceinline__ size_t rowSpaceBytes(int32_t chunks) {
  return static_cast<size_t>(chunks) * (sizeof(Chunk) + (kMostLogprobs + kSegmentsPerChunk) * sizeof(uint64_t)) +
         kBins * (sizeof(unsigned long long) + sizeof(uint32_t));
}

__device__ __forceinline__ RowSpace spaceOf(const Problem& problem, int64_t row) {
  unsigned char* at = problem.workspace + row * rowSpaceBytes(problem.chunks);
  RowSpace space;
  space.binMass = reinterpret_cast<unsigned long long*>(at);
  space.binCount = reinterpret_cast<uint32_t*>(space.binMass + kBins);
  space.chunks = reinterpret_cast<Chunk*>(space.binCount + kBins);
  space.tops = reinterpret_cast<uint64_t*>(space.chunks + problem.chunks);
  space.segments = space.tops + static_cast<int64_t>(problem.chunks) * kMostLogprobs;
  return space;
}

// Null where every token may be chosen.
__device__ __forceinline__ const int32_t* maskOf(const Problem& problem, const SampleRow& wishes) {
  return wishes.mask < 0 ? nullptr
                         : problem.lists.masks + static_cast<int64_t>(wishes.mask) * ((problem.vocab + 31) / 32);
}
__device__ __forceinline__ bool isAllowed(const int32_t* mask, int32_t token) {
  return (static_cast<uint32_t>(mask[token / 32]) >> (token % 32) & 1) != 0;
}

__device__ __forceinline__ Logits chunkLogits(const Problem& problem, int64_t row, int chunk) {
  const int first = chunk * kChunk;
  return {problem.logits + row * problem.stride + first, min(kChunk, problem.vocab - first), first, 1, 0};
}

// --- what all chunks say together

struct Merged {
  bool finite;
  uint64_t best, unchangedBest;
};

// Every warp does it for itself.
__device__ __forceinline__ Merged mergeChunks(const Problem& problem, const RowSpace& space) {
  uint64_t best = kNoLimit, unchangedBest = kNoLimit, unsound = 0, possible = 0;
  for (int i = threadIdx.x % 32; i < problem.chunks; i += 32) {
    const Chunk& chunk = space.chunks[i];
    best = chunk.best < best ? chunk.best : best;
    unchangedBest = chunk.unchangedBest < unchangedBest ? chunk.unchangedBest : unchangedBest;
    unsound |= chunk.unsound;
    possible |= chunk.possible;
  }
  best = warpMin64(best);
  unchangedBest = warpMin64(unchangedBest);
  // Either is a number of tokens, so the sum of ors is zero only where all are.
  unsound = warpSum64(unsound);
  possible = warpSum64(possible);
  return {unsound == 0 && possible > 0, best, unchangedBest};
}

struct Plan {
  bool draws;  // false: the likeliest token it is
  bool topK, topP;
  Logits logits;   // the whole row
  uint64_t limit;  // min-p
};

// The last order whose weight relative to the largest logit is at least minP. 2^-54 below the largest the exponential
// still rounds to one in fp64: equal logits count as equal at temperatures that all but equate them.
__device__ __forceinline__ uint64_t minPLimit(float minP, float largest) {
  if (minP <= 0) return kNoLimit;
  const double least = static_cast<double>(largest) + (log(fmin(static_cast<double>(minP), 1.0)) - 0x1p-54);
  float rounded = static_cast<float>(least);
  if (static_cast<double>(rounded) < least) rounded = nextafterf(rounded, INFINITY);
  return orderOf(rounded, 0) | 0xffffffffu;
}

__device__ __forceinline__ Plan planOf(const Problem& problem, int64_t row, const Merged& merged,
                                       const SampleRow& wishes) {
  Plan plan;
  plan.logits = {problem.logits + row * problem.stride, problem.vocab, 0, wishes.temperature, 0};
  plan.draws = false;
  if (!merged.finite || wishes.temperature == 0) return plan;
  plan.logits.largest = plan.logits.scaled(logitOf(merged.best));
  // A tiny temperature overflows; then, and where every token is banned, the likeliest is all there is to choose.
  plan.draws = plan.logits.largest > -INFINITY && plan.logits.largest < INFINITY;
  plan.topK = wishes.topK > 0 && wishes.topK < problem.vocab;
  plan.topP = wishes.topP < 1;
  plan.limit = minPLimit(wishes.minP, plan.logits.largest);
  return plan;
}

// --- segments

// Four logits from `first` on; what lies behind the row's end cannot be chosen.
__device__ __forceinline__ float4 loadFour(const Logits& logits, int first) {
  if (first + 4 <= logits.count) return *reinterpret_cast<const float4*>(logits.values + first);
  float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
  if (first < logits.count) four.x = logits.values[first];
  if (first + 1 < logits.count) four.y = logits.values[first + 1];
  if (first + 2 < logits.count) four.z = logits.values[first + 2];
  return four;
}

__device__ __forceinline__ uint64_t weightWithin(const Logits& logits, uint64_t limit, float logit, int token) {
  const float scaled = logits.scaled(logit);
  return orderOf(scaled, token) <= limit ? logits.weightOf(scaled) : 0;
}

// The mass of a segment's tokens with orders <= limit. A warp does it; all lanes get the sum.
__device__ __forceinline__ uint64_t segmentMass(const Logits& logits, uint64_t limit, int segment) {
  constexpr int kRounds = kSegment / 128;
  const int first = segment * kSegment + 4 * static_cast<int>(threadIdx.x % 32);
  float4 loaded[kRounds];
#pragma unroll
  for (int r = 0; r < kRounds; ++r) loaded[r] = loadFour(logits, first + 128 * r);
  uint64_t mass = 0;
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    float4 four = loaded[r];
#pragma unroll 1
    for (int i = 0; i < 4; ++i, four = make_float4(four.y, four.z, four.w, 0))
      mass += weightWithin(logits, limit, four.x, first + 128 * r + i);
  }
  return warpSum64(mass);
}

}  // namespace shardspeed::cuda
