#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/sample.h"

// Exact selection without sorting, by one block: which token ends the k most likely, or the most likely that together
// hold a given mass.
//
// A row is totally ordered by (logit, larger first; token id, smaller first), so a token's place can be packed into one
// uint64 ("order", small = likely), and every filter keeps what lies at or before some order. To find it, tokens are
// counted and weighed in kBins bins of equal width below the largest logit, the bin in which the sum passes the wanted
// one is found by a scan, and the few members of that bin are ranked among each other by comparing all pairs. Where a
// bin holds more than kMembers (ties, or a very flat distribution), its range of orders is cut into kBins parts again,
// until it does not; orders are distinct, so that ends.
//
// Weights exp(logit - largest) are fixed-point integers, 2^-44 the unit. Sums of integers do not depend on the order of
// addition, so atomics, any number of blocks and any block size give the same bits, which no floating-point sum in
// parallel would without a fixed tree. The sum of 2^20 weights fits; what the truncation loses is below 2^-24 of the
// sum even then, and expf's own error is larger.

namespace shardspeed::cuda {

constexpr int kBins = 2048;
constexpr float kBinsPerUnit = 64;  // the last bin begins at 31.98 below the largest: weights from there on are zero
constexpr float kWeightOne = 17592186044416.0f;  // 2^44
constexpr int kMembers = 512;
constexpr uint64_t kNoLimit = ~uint64_t{0};

// Where a running sum over bins reaches what was asked for.
struct BinCut {
  int32_t bin;
  uint32_t population;   // tokens in it
  uint64_t countBefore;  // tokens and mass in the bins before it
  uint64_t massBefore;
};

// A token found, with the count and mass of the bin's members up to and including it.
struct Located {
  uint64_t order;
  uint64_t count;
  uint64_t mass;
};

struct SelectScratch {
  uint32_t counts[kBins];
  uint32_t massLow[kBins];  // a 64-bit sum in two words: shared memory adds 32 bits at a time
  uint32_t massHigh[kBins];
  uint64_t members[kMembers];
  uint64_t memberWeights[kMembers];
  uint64_t partial[64];  // two a warp
  uint32_t memberCount;
  BinCut cut;
  Located located;
  double logSum;
};

// --- Orders

__device__ __forceinline__ uint64_t orderOf(float logit, int32_t token) {
  const uint32_t bits = __float_as_uint(logit == 0 ? 0.0f : logit);  // -0 equals 0
  const uint32_t ascending = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return static_cast<uint64_t>(~ascending) << 32 | static_cast<uint32_t>(token);
}
__device__ __forceinline__ float logitOf(uint64_t order) {
  const uint32_t ascending = ~static_cast<uint32_t>(order >> 32);
  return __uint_as_float(ascending ^ (ascending >> 31 ? 0x80000000u : 0xffffffffu));
}
__device__ __forceinline__ int32_t tokenOf(uint64_t order) {
  return static_cast<int32_t>(order & 0xffffffffu);
}

// --- Consecutive tokens of a row

struct Logits {
  const float* values;  // aligned to 16 bytes
  int32_t count;
  int32_t firstToken;
  float temperature;
  float largest;  // of the logits divided by the temperature

  // Correctly rounded whatever the compiler's flags, as the CPU does it: ties depend on it.
  __device__ __forceinline__ float scaled(float logit) const { return __fdiv_rn(logit, temperature); }
  __device__ __forceinline__ int binOf(float scaledLogit) const {
    const float below = (largest - scaledLogit) * kBinsPerUnit;
    return below < kBins - 1 ? static_cast<int>(below) : kBins - 1;  // also what is not a number
  }
  __device__ __forceinline__ uint64_t weightOf(float scaledLogit) const {
    const float weight = expf(scaledLogit - largest);
    return weight > 0 ? static_cast<uint64_t>(weight * kWeightOne) : 0;
  }
};

// The block calls visit(logit, token) for every token; kBatch loads of 16 bytes a thread are under way at a time.
template <int kBatch, typename Visit>
__device__ __forceinline__ void forEach(const Logits& logits, Visit&& visit) {
  const int groups = logits.count / 4;
  const float4* values = reinterpret_cast<const float4*>(logits.values);
  for (int first = threadIdx.x; first < groups; first += blockDim.x * kBatch) {
    float4 loaded[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int group = first + b * static_cast<int>(blockDim.x);
      if (group < groups) loaded[b] = values[group];
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int group = first + b * static_cast<int>(blockDim.x);
      if (group >= groups) continue;
      const int token = logits.firstToken + 4 * group;
      visit(loaded[b].x, token);
      visit(loaded[b].y, token + 1);
      visit(loaded[b].z, token + 2);
      visit(loaded[b].w, token + 3);
    }
  }
  const int rest = 4 * groups + threadIdx.x;
  if (rest < logits.count) visit(logits.values[rest], logits.firstToken + rest);
}

// The same with one place for the visit, where it is much code and few calls see more than a bin.
template <typename Visit>
__device__ __forceinline__ void forEachInTurn(const Logits& logits, Visit&& visit) {
  constexpr int kBatch = 8;
#pragma unroll 1
  for (int first = threadIdx.x; first < logits.count; first += static_cast<int>(blockDim.x) * kBatch) {
    float loaded[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int at = first + b * static_cast<int>(blockDim.x);
      loaded[b] = at < logits.count ? logits.values[at] : 0.0f;
    }
#pragma unroll 1
    for (int at = first; at < min(logits.count, first + static_cast<int>(blockDim.x) * kBatch);
         at += static_cast<int>(blockDim.x)) {
      visit(loaded[0], logits.firstToken + at);
      // The next one to the front: registers have no index.
#pragma unroll
      for (int b = 0; b + 1 < kBatch; ++b) loaded[b] = loaded[b + 1];
    }
  }
}

// --- Sums and minima of integers

// Calls and loops rather than inlined code: a kernel has many of them, and none is in a loop over the tokens.
static __device__ __attribute__((noinline)) uint64_t warpSum64(uint64_t value) {
  __syncwarp();
#pragma unroll 1
  for (int distance = 16; distance > 0; distance >>= 1) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
static __device__ __attribute__((noinline)) uint64_t warpMin64(uint64_t value) {
  __syncwarp();
#pragma unroll 1
  for (int distance = 16; distance > 0; distance >>= 1) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, value, distance);
    value = other < value ? other : value;
  }
  return value;
}
// The sum of the lanes before this one.
static __device__ __attribute__((noinline)) uint64_t warpSumBefore64(uint64_t value) {
  const int lane = threadIdx.x % 32;
  uint64_t sum = value;
  __syncwarp();
#pragma unroll 1
  for (int distance = 1; distance < 32; distance <<= 1) {
    const uint64_t other = __shfl_up_sync(0xffffffffu, sum, distance);
    if (lane >= distance) sum += other;
  }
  return sum - value;
}

// All threads of the block call these and get the result. partial: shared memory, one word a warp, free again
// afterwards.
static __device__ __attribute__((noinline)) uint64_t blockSum64(uint64_t value, uint64_t* partial) {
  const unsigned lane = threadIdx.x % 32;
  value = warpSum64(value);
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? partial[lane] : 0;
  __syncthreads();
  return warpSum64(value);
}
static __device__ __attribute__((noinline)) uint64_t blockMin64(uint64_t value, uint64_t* partial) {
  const unsigned lane = threadIdx.x % 32;
  value = warpMin64(value);
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  value = lane < blockDim.x / 32 ? partial[lane] : kNoLimit;
  __syncthreads();
  return warpMin64(value);
}

// --- Bins. The block's threads must meet at a barrier between clearing, adding and reading.

__device__ __forceinline__ void clearBins(SelectScratch& scratch) {
#pragma unroll 2
  for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x)
    scratch.counts[bin] = scratch.massLow[bin] = scratch.massHigh[bin] = 0;
}

__device__ __forceinline__ void addToBin(SelectScratch& scratch, int bin, uint64_t weight) {
  atomicAdd(&scratch.counts[bin], 1u);
  const auto low = static_cast<uint32_t>(weight);
  auto high = static_cast<uint32_t>(weight >> 32);
  if (low != 0) {
    const uint32_t before = atomicAdd(&scratch.massLow[bin], low);
    high += before + low < before ? 1 : 0;  // of all who add to the word, one sees each overflow
  }
  if (high != 0) atomicAdd(&scratch.massHigh[bin], high);
}

__device__ __forceinline__ uint64_t massOf(const SelectScratch& scratch, int bin) {
  return static_cast<uint64_t>(scratch.massHigh[bin]) << 32 | scratch.massLow[bin];
}

// The first bin with which the running count (or mass) reaches `need`, 1 <= need <= the sum of all. Begins and ends
// with a barrier.
static __device__ __attribute__((noinline)) void findBinOf(bool byMass, uint64_t need, SelectScratch& scratch) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int perThread = kBins / static_cast<int>(blockDim.x);
  const int first = threadIdx.x * perThread;
  __syncthreads();
  uint64_t count = 0, mass = 0;
#pragma unroll 2
  for (int bin = first; bin < first + perThread; ++bin) count += scratch.counts[bin], mass += massOf(scratch, bin);
  uint64_t countBefore = warpSumBefore64(count), massBefore = warpSumBefore64(mass);
  if (lane == 31) {
    scratch.partial[2 * warp] = countBefore + count;
    scratch.partial[2 * warp + 1] = massBefore + mass;
  }
  if (threadIdx.x == 0) scratch.cut = {kBins - 1, 0, 0, 0};
  __syncthreads();
#pragma unroll 2
  for (int other = 0; other < warp; ++other) {
    countBefore += scratch.partial[2 * other];
    massBefore += scratch.partial[2 * other + 1];
  }
  const uint64_t before = byMass ? massBefore : countBefore;
  if (before < need && need <= before + (byMass ? mass : count)) {
    int bin = first;
#pragma unroll 1
    for (;; ++bin) {
      const uint64_t inBin = byMass ? massOf(scratch, bin) : scratch.counts[bin];
      if (need <= (byMass ? massBefore : countBefore) + inBin) break;
      countBefore += scratch.counts[bin];
      massBefore += massOf(scratch, bin);
    }
    scratch.cut = {bin, scratch.counts[bin], countBefore, massBefore};
  }
  __syncthreads();
}
__device__ __forceinline__ BinCut findBin(bool byMass, uint64_t need, SelectScratch& scratch) {
  findBinOf(byMass, need, scratch);
  return scratch.cut;
}

// --- Members of a bin

// visit(order) for the tokens of `bin` with orders in [low, high].
template <typename Visit>
__device__ __forceinline__ void forEachMember(const Logits& logits, int bin, uint64_t low, uint64_t high,
                                              Visit&& visit) {
  forEachInTurn(logits, [&](float logit, int32_t token) {
    const float scaled = logits.scaled(logit);
    if (logits.binOf(scaled) != bin) return;
    const uint64_t order = orderOf(scaled, token);
    if (order >= low && order <= high) visit(order);
  });
}

// A range of orders within a bin, and what lies before it in the bin.
struct OrderRange {
  uint64_t low, high;
  uint32_t population;  // at least as many as there are
  uint64_t count, mass;
};

// The part of the range that holds the member looked for; `need` counts from the range's begin, before and after.
__device__ __forceinline__ void narrow(const Logits& logits, int bin, bool byMass, uint64_t& need, OrderRange& range,
                                       SelectScratch& scratch) {
  uint64_t least = kNoLimit, most = 0;
  forEachMember(logits, bin, range.low, range.high, [&](uint64_t order) {
    least = order < least ? order : least;
    most = order > most ? order : most;
  });
  range.low = blockMin64(least, scratch.partial);
  range.high = ~blockMin64(~most, scratch.partial);
  int shift = 0;
  while ((range.high - range.low) >> shift >= kBins) ++shift;
  clearBins(scratch);
  __syncthreads();
  forEachMember(logits, bin, range.low, range.high, [&](uint64_t order) {
    addToBin(scratch, static_cast<int>((order - range.low) >> shift), logits.weightOf(logitOf(order)));
  });
  const BinCut cut = findBin(byMass, need, scratch);
  need -= byMass ? cut.massBefore : cut.countBefore;
  range.low += static_cast<uint64_t>(cut.bin) << shift;
  const uint64_t width = (uint64_t{1} << shift) - 1;
  if (width < range.high - range.low) range.high = range.low + width;
  range.population = cut.population;
  range.count += cut.countBefore;
  range.mass += cut.massBefore;
}

// The member of `bin` (found by findBin, population tokens) with which the count (mass) of its members, taken from the
// most likely on, reaches `need`; only orders <= limit are members. All threads of the block call it; bins are lost.
__device__ __forceinline__ Located locate(const Logits& logits, int bin, uint64_t limit, bool byMass, uint64_t need,
                                          uint32_t population, SelectScratch& scratch) {
  OrderRange range{0, limit, population, 0, 0};
  while (range.population > kMembers) narrow(logits, bin, byMass, need, range, scratch);
  if (threadIdx.x == 0) {
    scratch.memberCount = 0;
    scratch.located = {limit, 0, 0};
  }
  __syncthreads();
  forEachMember(logits, bin, range.low, range.high, [&](uint64_t order) {
    const uint32_t place = atomicAdd(&scratch.memberCount, 1u);
    if (place >= kMembers) return;
    scratch.members[place] = order;
    scratch.memberWeights[place] = logits.weightOf(logitOf(order));
  });
  __syncthreads();
  const int count = min(static_cast<int>(scratch.memberCount), kMembers);
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const uint64_t mine = scratch.members[i], weight = scratch.memberWeights[i];
    uint64_t rank = 0, mass = 0;
#pragma unroll 2
    for (int other = 0; other < count; ++other)
      if (scratch.members[other] < mine) ++rank, mass += scratch.memberWeights[other];
    if (byMass ? mass < need && need <= mass + weight : rank + 1 == need)
      scratch.located = {mine, range.count + rank + 1, range.mass + mass + weight};
  }
  __syncthreads();
  const Located located = scratch.located;
  __syncthreads();
  return located;
}

}  // namespace shardspeed::cuda
