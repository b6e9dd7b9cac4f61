#pragma once

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/sample_row.cuh"

// The two launches of cuda/sample.cu that spread a row over many blocks, one for each chunk.

namespace shardspeed::cuda {

// --- survey

// The least order of the chunk, kNoLimit where its mask allows no token. Counts what is not sound and what is possible
// where asked to.
template <bool kJudge>
__device__ __forceinline__ uint64_t survey(const Logits& logits, Chunk& chunk, uint64_t* partial,
                                           const int32_t* mask = nullptr) {
  uint64_t best = kNoLimit, judged = 0;
  const auto look = [&](float logit, int32_t token) {
    const uint64_t order = orderOf(logit, token);
    if (kJudge || mask == nullptr || isAllowed(mask, token)) best = order < best ? order : best;
    if (kJudge) judged += (logit < INFINITY ? 0 : uint64_t{1} << 32) + (logit > -INFINITY ? 1 : 0);
  };
  // The first look is that of all rows.
  if (kJudge)
    forEach<4>(logits, look);
  else
    forEachInTurn(logits, look);
  if (kJudge) {
    judged = blockSum64(judged, partial);
    chunk.unsound = static_cast<uint32_t>(judged >> 32);
    chunk.possible = static_cast<uint32_t>(judged);
  }
  return blockMin64(best, partial);
}

// The chunk's mass relative to its own largest logit, and its `wanted` largest tokens, sorted.
__device__ __forceinline__ void describe(Logits logits, int wanted, Chunk& chunk, uint64_t* tops,
                                         SelectScratch& scratch) {
  logits.largest = logitOf(chunk.unchangedBest);
  clearBins(scratch);
  __syncthreads();
  uint64_t mass = 0;
  forEachInTurn(logits, [&](float logit, int32_t) {
    const uint64_t weight = logits.weightOf(logit);
    mass += weight;
    if (wanted > 0) addToBin(scratch, logits.binOf(logit), weight);
  });
  chunk.mass = blockSum64(mass, scratch.partial);
  chunk.topCount = wanted;
  if (wanted == 0) return;
  const BinCut cut = findBin(false, wanted, scratch);
  const Located last = locate(logits, cut.bin, kNoLimit, false, wanted - cut.countBefore, cut.population, scratch);
  if (threadIdx.x == 0) scratch.memberCount = 0;
  __syncthreads();
  forEachInTurn(logits, [&](float logit, int32_t token) {
    const uint64_t order = orderOf(logit, token);
    if (order <= last.order) scratch.members[atomicAdd(&scratch.memberCount, 1u) % kMembers] = order;
  });
  __syncthreads();
  for (int i = threadIdx.x; i < wanted; i += blockDim.x) {
    int rank = 0;
#pragma unroll 1
    for (int other = 0; other < wanted; ++other) rank += scratch.members[other] < scratch.members[i] ? 1 : 0;
    tops[rank] = scratch.members[i];
  }
}

// The mask and the biases of the chunk's tokens, in place.
__device__ __forceinline__ void applyMask(const Problem& problem, const SampleRow& wishes, const Logits& logits) {
  float* values = const_cast<float*>(logits.values);
  const int32_t* mask = maskOf(problem, wishes);
  if (mask != nullptr) {
    for (int at = threadIdx.x; at < logits.count; at += blockDim.x)
      if (!isAllowed(mask, logits.firstToken + at)) values[at] = -INFINITY;
    __syncthreads();
  }
  for (int i = threadIdx.x; i < wishes.biasEntries; i += blockDim.x) {
    BiasEntry& entry = problem.lists.biases[wishes.firstBias + i];
    const int at = entry.token - logits.firstToken;
    if (at < 0 || at >= logits.count) continue;
    entry.unchanged = values[at];
    values[at] = __fadd_rn(values[at], entry.bias);
  }
  if (wishes.biasEntries > 0) __syncthreads();
}

// Penalties and bans of the chunk's tokens, in place, after their mask and biases. Whether there were any in the row's
// lists.
__device__ __forceinline__ bool penalize(const Problem& problem, const SampleRow& wishes, const Logits& logits) {
  float* values = const_cast<float*>(logits.values);
  applyMask(problem, wishes, logits);
  for (int i = threadIdx.x; i < wishes.countEntries; i += blockDim.x) {
    TokenCount& entry = problem.lists.counts[wishes.firstCount + i];
    const int at = entry.token - logits.firstToken;
    if (at < 0 || at >= logits.count) continue;
    float logit = values[at];
    if (wishes.logprobs >= 0) entry.unchanged = logit;
    // Each operation rounded by itself, as on the CPU.
    logit = logit > 0 ? __fdiv_rn(logit, wishes.repetitionPenalty) : __fmul_rn(logit, wishes.repetitionPenalty);
    if (entry.count > 0)
      logit = __fadd_rn(logit, -__fadd_rn(wishes.presencePenalty,
                                          __fmul_rn(wishes.frequencyPenalty, static_cast<float>(entry.count))));
    values[at] = logit;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < wishes.bannedEntries; i += blockDim.x) {
    const int at = problem.lists.banned[wishes.firstBanned + i] - logits.firstToken;
    if (at >= 0 && at < logits.count) atomicExch(values + at, -INFINITY);  // a list may name a token twice
  }
  __syncthreads();
  return wishes.countEntries > 0 || wishes.bannedEntries > 0 || wishes.biasEntries > 0 || wishes.mask >= 0;
}

// Where all rows are plainly greedy.
struct PlainScratch {
  uint64_t partial[kChunkThreads / 32];
};
static __global__ void __launch_bounds__(kChunkThreads) surveyPlainKernel(Problem problem) {
  PlainScratch& scratch = sharedMemory<PlainScratch>();
  pdlWait();
  pdlTrigger();
  Chunk chunk{};
  chunk.best = survey<true>(chunkLogits(problem, blockIdx.y, blockIdx.x), chunk, scratch.partial);
  if (threadIdx.x == 0) spaceOf(problem, blockIdx.y).chunks[blockIdx.x] = chunk;
}

static __global__ void __launch_bounds__(kChunkThreads, 2) surveyKernel(Problem problem) {
  SelectScratch& scratch = sharedMemory<SelectScratch>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.y;
  const RowSpace space = spaceOf(problem, row);
  const SampleRow wishes = problem.lists.rows[row];
  const Logits logits = chunkLogits(problem, row, blockIdx.x);
  Chunk chunk{};
  chunk.best = chunk.unchangedBest = survey<true>(logits, chunk, scratch.partial);
  chunk.firstUnchanged = logits.values[0];
  if (wishes.logprobs >= 0 && chunk.unsound == 0)
    describe(logits, min(min(wishes.logprobs, kMostLogprobs), logits.count), chunk,
             space.tops + blockIdx.x * kMostLogprobs, scratch);
  // What the next launch adds to.
  for (int bin = blockIdx.x * blockDim.x + threadIdx.x; bin < kBins; bin += gridDim.x * blockDim.x) {
    space.binMass[bin] = 0;
    space.binCount[bin] = 0;
  }
  __syncthreads();  // all have read what penalties change
  if (penalize(problem, wishes, logits))
    chunk.best = survey<false>(logits, chunk, scratch.partial, maskOf(problem, wishes));
  if (threadIdx.x == 0) space.chunks[blockIdx.x] = chunk;
}

// --- weigh

static __global__ void __launch_bounds__(kChunkThreads) weighKernel(Problem problem) {
  SelectScratch& scratch = sharedMemory<SelectScratch>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.y;
  const RowSpace space = spaceOf(problem, row);
  const SampleRow wishes = problem.lists.rows[row];
  const Plan plan = planOf(problem, row, mergeChunks(problem, space), wishes);
  if (!plan.draws) return;
  if (!plan.topK && !plan.topP) {
    const int segment = blockIdx.x * kSegmentsPerChunk + threadIdx.x / 32;
    const uint64_t mass = segmentMass(plan.logits, plan.limit, segment);
    if (threadIdx.x % 32 == 0) space.segments[segment] = mass;
    return;
  }
  clearBins(scratch);
  __syncthreads();
  Logits logits = plan.logits;
  logits.firstToken = blockIdx.x * kChunk;
  logits.values += logits.firstToken;
  logits.count = min(kChunk, problem.vocab - logits.firstToken);
  forEach<2>(logits, [&](float logit, int32_t) {
    const float scaled = logits.scaled(logit);
    addToBin(scratch, logits.binOf(scaled), logits.weightOf(scaled));
  });
  __syncthreads();
  for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) {
    const uint32_t count = scratch.counts[bin];
    if (count == 0) continue;
    atomicAdd(space.binCount + bin, count);
    const unsigned long long mass = massOf(scratch, bin);
    if (mass != 0) atomicAdd(space.binMass + bin, mass);
  }
}

}  // namespace shardspeed::cuda
