#include "cuda/sample.h"

#include "base/error.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/sample_survey.cuh"

// The next token of every row: three launches, or two where all rows are plainly greedy. Two others score tokens that
// are known.
//
// Logits are fp32 (count, stride), up to 1 MB a row, and lie in the L2 cache when this begins. Sorting them would move
// them dozens of times; here each launch reads them once, and the last one some times more, but only where a filter
// needs it. What decides is latency, so the first two launches spread a row over many blocks:
//
//   survey  a block per row and chunk of kChunk tokens: is it finite, its largest logit; where log-probabilities are
//           wanted, its mass and its n largest; then masks, biases, penalties and bans, written back, and the largest
//           logit after them
//   weigh   the same grid: where top-k or top-p is on, counts and weighs the tokens in bins below the row's largest
//           logit; else the mass of each segment of kSegment tokens
//   choose  a block per row: the cuts of the filters (sample_select.cuh), the masses of segments of what they left, and
//           one warp walks to the drawn token: over segments, then over the tokens of one
//
// All sums of masses are integers, so a row's choice depends neither on the grid nor on the other rows.

namespace shardspeed::cuda {

namespace {

constexpr int kChooseThreads = 512;
static_assert(kBins % kChooseThreads == 0);

__device__ __forceinline__ void loadBins(const RowSpace& space, SelectScratch& scratch) {
  for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) {
    const uint64_t mass = space.binMass[bin];
    scratch.counts[bin] = space.binCount[bin];
    scratch.massLow[bin] = static_cast<uint32_t>(mass);
    scratch.massHigh[bin] = static_cast<uint32_t>(mass >> 32);
  }
}

// The last order that top-k and top-p leave. All threads of the block call it.
__device__ __forceinline__ uint64_t filterLimit(const Plan& plan, const SampleRow& wishes, const RowSpace& space,
                                                SelectScratch& scratch) {
  uint64_t limit = kNoLimit, total = 0;
  loadBins(space, scratch);
  if (!plan.topK) {
    for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) total += massOf(scratch, bin);
    total = blockSum64(total, scratch.partial);
  }
  // First the k likeliest, then the mass: one code for both.
#pragma unroll 1
  for (int filter = plan.topK ? 0 : 1; filter < (plan.topP ? 2 : 1); ++filter) {
    const bool byMass = filter == 1;
    uint64_t need = wishes.topK;
    if (byMass) {
      // total >= the weight of the likeliest token, so there is something to find.
      const double wanted = ceil(static_cast<double>(wishes.topP) * static_cast<double>(total));
      need = wanted < 1 ? 1 : static_cast<uint64_t>(wanted);
      need = need < total ? need : total;
      __syncthreads();
      loadBins(space, scratch);  // locate may have used them
    }
    const BinCut cut = findBin(byMass, need, scratch);
    if (!byMass) total = cut.massBefore;
    // What is in the last bin has no weight, so there it does not matter who is left out.
    if (!byMass && cut.bin == kBins - 1) continue;
    need -= byMass ? cut.massBefore : cut.countBefore;
    const Located last = locate(plan.logits, cut.bin, limit, byMass, need, cut.population, scratch);
    limit = last.order;
    if (!byMass) total += last.mass;
  }
  return limit;
}

// Uniform in [0, 1) as a fraction of 2^53 in the upper bits: the counter-based generator of runtime/sampler.cpp
// (splitmix64).
__device__ __forceinline__ uint64_t uniformBits(uint64_t seed, uint64_t counter) {
  uint64_t x = seed + (counter + 1) * 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  return x & ~uint64_t{0x7ff};
}

// A number of the lane in which predicate holds, of which there is one at most, for all lanes.
__device__ __forceinline__ uint64_t fromLane(bool predicate, uint64_t value) {
  return warpSum64(predicate ? value : 0);
}

// The token at which the running mass, in order of token ids, passes the drawn point. One warp.
__device__ __forceinline__ int32_t walk(const Plan& plan, uint64_t limit, const SampleRow& wishes,
                                        const uint64_t* segments, int segmentCount) {
  const int lane = threadIdx.x % 32;
  const int perLane = (segmentCount + 31) / 32;
  const int first = min(lane * perLane, segmentCount), last = min(first + perLane, segmentCount);
  uint64_t mass = 0;
#pragma unroll 2
  for (int segment = first; segment < last; ++segment) mass += segments[segment];
  const uint64_t before = warpSumBefore64(mass);
  const uint64_t total = warpSum64(mass);
  uint64_t point = __umul64hi(uniformBits(wishes.seed, wishes.counter), total);  // < total
  // The segment that holds the point: exactly one lane finds it.
  const bool mine = before <= point && point < before + mass;
  int found = first;
  uint64_t passed = before;
  while (mine && passed + segments[found] <= point) passed += segments[found++];
  const int segment = static_cast<int>(fromLane(mine, found));
  point -= fromLane(mine, passed);
  for (int token = segment * kSegment + 4 * lane;; token += 128) {
    const float4 logits = loadFour(plan.logits, token);
    const uint64_t weights[4] = {
        weightWithin(plan.logits, limit, logits.x, token), weightWithin(plan.logits, limit, logits.y, token + 1),
        weightWithin(plan.logits, limit, logits.z, token + 2), weightWithin(plan.logits, limit, logits.w, token + 3)};
    const uint64_t sum = weights[0] + weights[1] + weights[2] + weights[3];
    uint64_t running = warpSumBefore64(sum);
    const bool here = running <= point && point < running + sum;
    int offset = 0;
#pragma unroll
    for (int i = 0; i < 3; ++i)
      if (offset == i && running + weights[i] <= point) running += weights[i], ++offset;
    if (__any_sync(0xffffffffu, here)) return static_cast<int32_t>(fromLane(here, token + offset));
    point -= warpSum64(sum);
  }
}

// log of the sum of exp(logit) before penalties, from the masses of chunks. One warp.
__device__ __forceinline__ double logSumOf(const Problem& problem, const RowSpace& space, float largest) {
  double sum = 0;
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < problem.chunks; i += 32) {
    const Chunk& chunk = space.chunks[i];
    sum += static_cast<double>(chunk.mass) * static_cast<double>(expf(logitOf(chunk.unchangedBest) - largest));
  }
  __syncwarp();
#pragma unroll 1
  for (int distance = 16; distance > 0; distance >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  return static_cast<double>(largest) + log(sum / static_cast<double>(kWeightOne));
}

// Merges the sorted lists of the chunks: an order's place is the number of smaller ones in all lists.
__device__ __forceinline__ void writeTops(const Problem& problem, const RowSpace& space, int wanted, double logSum,
                                          SampleResult& result) {
  for (int i = threadIdx.x; i < problem.chunks * wanted; i += blockDim.x) {
    const int chunk = i / wanted, place = i % wanted;
    if (place >= space.chunks[chunk].topCount) continue;
    const uint64_t mine = space.tops[chunk * kMostLogprobs + place];
    int rank = place;
    for (int other = 0; other < problem.chunks && rank < wanted; ++other) {
      if (other == chunk) continue;
      const uint64_t* list = space.tops + other * kMostLogprobs;
      const int length = space.chunks[other].topCount;
      for (int j = 0; j < length && list[j] < mine; ++j) ++rank;
    }
    if (rank < wanted)
      result.top[rank] = {tokenOf(mine), static_cast<float>(static_cast<double>(logitOf(mine)) - logSum)};
  }
  if (threadIdx.x == 0) result.topCount = wanted;
}

// The logit that an entry of a list keeps for its token. One warp; all lanes get it.
template <typename Entry>
__device__ __forceinline__ bool findUnchanged(const Entry* entries, int32_t count, int32_t token, float& unchanged) {
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < (count + 31) / 32 * 32; i += 32) {
    const bool found = i < count && entries[i].token == token;
    if (!__any_sync(0xffffffffu, found)) continue;
    unchanged =
        __uint_as_float(static_cast<uint32_t>(fromLane(found, found ? __float_as_uint(entries[i].unchanged) : 0)));
    return true;
  }
  return false;
}

// The token's logit before masks, biases and penalties. One warp; all lanes get it.
__device__ __forceinline__ float unchangedLogit(const Problem& problem, const SampleRow& wishes, const RowSpace& space,
                                                const Logits& logits, int32_t token) {
  float unchanged = 0;
  // A token of both lists was biased first.
  if (findUnchanged(problem.lists.biases + wishes.firstBias, wishes.biasEntries, token, unchanged)) return unchanged;
  if (findUnchanged(problem.lists.counts + wishes.firstCount, wishes.countEntries, token, unchanged)) return unchanged;
  // A ban changes a logit too, but the token is chosen only where none was left, and then it is the first.
  return token == 0 ? space.chunks[0].firstUnchanged : logits.values[token];
}

__global__ void __launch_bounds__(kChooseThreads, 1) chooseKernel(Problem problem) {
  SelectScratch& scratch = sharedMemory<SelectScratch>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const int warp = threadIdx.x / 32;
  const RowSpace space = spaceOf(problem, row);
  const SampleRow wishes = problem.lists.rows[row];
  SampleResult& result = problem.results[row];
  const Merged merged = mergeChunks(problem, space);
  if (!merged.finite || wishes.logprobs < 0) {
    if (threadIdx.x == 0) result.logprob = 0, result.topCount = 0;
  } else {
    if (warp == 0) {
      const double logSum = logSumOf(problem, space, logitOf(merged.unchangedBest));
      if (threadIdx.x == 0) scratch.logSum = logSum;
    }
    __syncthreads();
    writeTops(problem, space, min(min(wishes.logprobs, kMostLogprobs), problem.vocab), scratch.logSum, result);
  }
  if (!merged.finite) {
    if (threadIdx.x == 0) result.finite = 0, result.token = 0;
    return;
  }
  const Plan plan = planOf(problem, row, merged, wishes);
  const int segmentCount = problem.chunks * kSegmentsPerChunk;
  uint64_t limit = plan.limit;
  if (plan.draws && (plan.topK || plan.topP)) {
    const uint64_t filtered = filterLimit(plan, wishes, space, scratch);
    limit = filtered < limit ? filtered : limit;
    for (int segment = warp; segment < segmentCount; segment += blockDim.x / 32) {
      const uint64_t mass = segmentMass(plan.logits, limit, segment);
      if (threadIdx.x % 32 == 0) space.segments[segment] = mass;
    }
    __syncthreads();
  }
  if (warp > 0) return;
  const int32_t token = plan.draws ? walk(plan, limit, wishes, space.segments, segmentCount) : tokenOf(merged.best);
  if (threadIdx.x == 0) result.finite = 1, result.token = token;
  if (wishes.logprobs < 0) return;
  const double logit = unchangedLogit(problem, wishes, space, plan.logits, token);
  if (threadIdx.x == 0) result.logprob = static_cast<float>(logit - scratch.logSum);
}

// The end of the plain way. One warp a row.
__global__ void __launch_bounds__(32) chooseLikeliestKernel(Problem problem) {
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const Merged merged = mergeChunks(problem, spaceOf(problem, row));
  if (threadIdx.x > 0) return;
  SampleResult& result = problem.results[row];
  result.finite = merged.finite ? 1 : 0;
  result.token = merged.finite ? tokenOf(merged.best) : 0;
  result.logprob = 0;
  result.topCount = 0;
}

// --- scoring: the survey and the end of it, for rows whose tokens are known

__global__ void __launch_bounds__(kChunkThreads, 2) surveyScoredKernel(Problem problem, const ScoreRow* rows) {
  SelectScratch& scratch = sharedMemory<SelectScratch>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.y;
  const RowSpace space = spaceOf(problem, row);
  const ScoreRow wish = rows[row];
  const Logits logits = chunkLogits(problem, row, blockIdx.x);
  Chunk chunk{};
  chunk.unchangedBest = survey<true>(logits, chunk, scratch.partial);
  if (chunk.unsound == 0)
    describe(logits, min(min(wish.top, kMostLogprobs), logits.count), chunk, space.tops + blockIdx.x * kMostLogprobs,
             scratch);
  const uint64_t own = orderOf(problem.logits[row * problem.stride + wish.token], wish.token);
  uint64_t before = 0;
  forEach<4>(logits, [&](float logit, int32_t token) { before += orderOf(logit, token) < own ? 1 : 0; });
  chunk.before = static_cast<uint32_t>(blockSum64(before, scratch.partial));
  if (threadIdx.x == 0) space.chunks[blockIdx.x] = chunk;
}

struct ScoreScratch {
  double logSum;
};
__global__ void __launch_bounds__(kChunkThreads, 1)
    scoreKernel(Problem problem, const ScoreRow* rows, ScoreResult* results) {
  ScoreScratch& scratch = sharedMemory<ScoreScratch>();
  pdlWait();
  pdlTrigger();
  const int64_t row = blockIdx.x;
  const RowSpace space = spaceOf(problem, row);
  const ScoreRow wish = rows[row];
  ScoreResult& result = results[row];
  const Merged merged = mergeChunks(problem, space);
  if (!merged.finite) {
    if (threadIdx.x == 0) result.token.finite = 0, result.token.topCount = 0;
    return;
  }
  if (threadIdx.x < 32) {
    const double logSum = logSumOf(problem, space, logitOf(merged.unchangedBest));
    uint64_t before = 0;
    for (int i = threadIdx.x; i < problem.chunks; i += 32) before += space.chunks[i].before;
    before = warpSum64(before);
    if (threadIdx.x == 0) {
      const double own = problem.logits[row * problem.stride + wish.token];
      scratch.logSum = logSum;
      result.rank = static_cast<int32_t>(before) + 1;
      result.token.finite = 1;
      result.token.token = wish.token;
      result.token.logprob = static_cast<float>(own - logSum);
    }
  }
  __syncthreads();
  writeTops(problem, space, min(min(wish.top, kMostLogprobs), problem.vocab), scratch.logSum, result.token);
}

int64_t chunksOf(int64_t vocab) {
  return (vocab + kChunk - 1) / kChunk;
}

}  // namespace

size_t sampleWorkspaceBytes(int64_t count, int64_t vocab) {
  return static_cast<size_t>(count) * rowSpaceBytes(static_cast<int32_t>(chunksOf(vocab)));
}

void sampleRows(float* logits, int64_t stride, int64_t vocab, int64_t count, bool plain, const SampleLists& lists,
                SampleResult* results, void* workspace, cudaStream_t stream) {
  if (count == 0) return;
  if (vocab > kMostVocab) throw Error("ERR_INVALID_ARGUMENT", "a vocabulary of more than 2^20 tokens");
  const auto chunks = static_cast<int32_t>(chunksOf(vocab));
  const Problem problem{logits, stride,  static_cast<int32_t>(vocab),           chunks,
                        lists,  results, static_cast<unsigned char*>(workspace)};
  const dim3 perRow(static_cast<unsigned>(count)),
      perChunk(static_cast<unsigned>(chunks), static_cast<unsigned>(count));
  const size_t scratch = sizeof(SelectScratch);
  if (plain) {
    launch(surveyPlainKernel, {"survey logits", perChunk, dim3(kChunkThreads), sizeof(PlainScratch), stream}, problem);
    launch(chooseLikeliestKernel, {"choose likeliest", perRow, dim3(32), 0, stream}, problem);
    return;
  }
  const dim3 chooseThreads(chunks > 1 ? kChooseThreads : kChunkThreads);
  launch(surveyKernel, {"survey logits", perChunk, dim3(kChunkThreads), scratch, stream}, problem);
  launch(weighKernel, {"weigh logits", perChunk, dim3(kChunkThreads), scratch, stream}, problem);
  launch(chooseKernel, {"choose tokens", perRow, chooseThreads, scratch, stream}, problem);
}

void scoreRows(const float* logits, int64_t stride, int64_t vocab, int64_t count, const ScoreRow* rows,
               ScoreResult* results, void* workspace, cudaStream_t stream) {
  if (count == 0) return;
  if (vocab > kMostVocab) throw Error("ERR_INVALID_ARGUMENT", "a vocabulary of more than 2^20 tokens");
  const auto chunks = static_cast<int32_t>(chunksOf(vocab));
  // Nothing here writes logits.
  const Problem problem{const_cast<float*>(logits),
                        stride,
                        static_cast<int32_t>(vocab),
                        chunks,
                        {},
                        nullptr,
                        static_cast<unsigned char*>(workspace)};
  const dim3 perRow(static_cast<unsigned>(count)),
      perChunk(static_cast<unsigned>(chunks), static_cast<unsigned>(count));
  launch(surveyScoredKernel, {"survey logits", perChunk, dim3(kChunkThreads), sizeof(SelectScratch), stream}, problem,
         rows);
  launch(scoreKernel, {"score tokens", perRow, dim3(kChunkThreads), sizeof(ScoreScratch), stream}, problem, rows,
         results);
}

}  // namespace shardspeed::cuda
