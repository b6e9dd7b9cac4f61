#include "cuda/all_reduce.h"

#include <algorithm>

#include "cuda/launch.cuh"
#include "cuda/projection_paths.h"
#include "cuda/rank_sum.cuh"

// Sums over ranks, with bias, residual sum and the next norm, in blocks of kNormThreads threads: a row leaves its part
// of a product, comes back as the sum, and goes out once as the residual stream and once, normalised, as what the next
// product reads. Apart from each other these would be four passes.
//
// Pushed (one-shot): each rank stores its part, (rows, cols) fp32, into the mailbox of every other rank, 16 bytes a
// thread, and then waits for theirs in its own. Stores across the link need no answer, where loads would take a way
// there and back. What is in a mailbox is its own flag: a cell holds -0.0 until a number has come, and is emptied again
// by the one thread that reads it. So it does not matter which block of which grid sends or reads a cell. Two halves
// take turns. A rank writes to a half again only after it has everybody's part of the sum in between, and those parts
// left after their ranks were through with the half: so it is empty by then.
//
// Few rows are cut into stretches of columns, a block each, since one multiprocessor takes long to send a row to seven
// others. A norm needs the whole row, and its order of additions is that of one block: the block that is done last with
// its stretch of a row normalises all of it. So the bits do not depend on the number of stretches.
//
// Blocks wait for those of other ranks, so all must get to run at once: they are few (kMostPushBlocks, and no more than
// the device has multiprocessors), and the kernel after this one may start only when the last parts have come, so that
// it cannot fill a device on which others still have to begin. Within a rank no block waits for another. When a block
// has sent what it has, it asks for weights of the next product to be brought to the L2 cache.

namespace shardspeed::cuda {

namespace {

constexpr uint32_t kEmpty = 0x80000000u;
constexpr int kPollsBetweenLooks = 64;  // at what the host says
constexpr int kWords = 4;               // of a cell, 16 bytes

__device__ __forceinline__ uint32_t filled(uint32_t word) {
  return word == kEmpty ? 0 : word;
}

__device__ __forceinline__ bool isEmpty(const uint4& cell) {
  return cell.x == kEmpty || cell.y == kEmpty || cell.z == kEmpty || cell.w == kEmpty;
}

// Words of a mailbox that so many elements of a part take.
template <typename P>
__device__ __forceinline__ int64_t wordsOf(int64_t elements) {
  return elements * static_cast<int64_t>(sizeof(P)) / static_cast<int64_t>(sizeof(uint32_t));
}

// The stretches that a launch divides a sum into. A block takes one at a time.
struct Division {
  int stretches = 1;  // of a row; more than one only where each block has one stretch of one row
  int cols = 0;       // of a stretch, a multiple of kColumnStep

  template <typename P>
  __device__ __forceinline__ Stretch<P> stretch(const SummedRows<P>& rows, int index) const {
    const int row = index / stretches, first = index % stretches * cols;
    return {row, first, min(first + cols, rows.cols)};
  }
};

// Stores this rank's part of a stretch with all others. half: where this turn's places begin, from that of the other.
template <int kOthers, int kUnits, typename P>
__device__ __forceinline__ void push(const SummedRows<P>& rows, const Stretch<P>& stretch, int64_t half,
                                     const Mailboxes& mailboxes) {
  constexpr int kStep = Stretch<P>::kStep;
  const int64_t offset = static_cast<int64_t>(stretch.row) * rows.stride;
#pragma unroll 1
  for (int first = stretch.firstOfThread(); first < stretch.end; first += kUnits * kStep) {
    uint4 own[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      own[u] = make_uint4(0, 0, 0, 0);
      if (first + u * kStep < stretch.end) own[u] = loadBits(rows.in + offset + first + u * kStep);
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      own[u] = make_uint4(filled(own[u].x), filled(own[u].y), filled(own[u].z), filled(own[u].w));
#pragma unroll
    for (int other = 0; other < kOthers; ++other) {
      if (other + 1 >= mailboxes.ranks) break;
      uint32_t* place = mailboxes.outboxes[other] + half + wordsOf<P>(offset + first);
#pragma unroll
      for (int u = 0; u < kUnits; ++u)
        if (first + u * kStep < stretch.end) storeRelaxedSystem16(place + wordsOf<P>(u * kStep), own[u]);
    }
  }
}

// A thread's cells with the other ranks' parts of columns u * kStep from a first one on.
template <typename P, int kOthers, int kUnits>
struct Cells {
  static constexpr int kStep = Stretch<P>::kStep;
  const Mailboxes& mailboxes;
  uint32_t* place;  // of the first rank's part
  int columns;      // to the end of the stretch
  uint4 found[kUnits][kOthers];

  __device__ __forceinline__ Cells(const Mailboxes& theMailboxes, uint32_t* thePlace, int theColumns)
      : mailboxes(theMailboxes), place(thePlace), columns(theColumns) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
#pragma unroll
      for (int other = 0; other < kOthers; ++other)
        if (present(u, other)) found[u][other] = loadRelaxedSystem16(cell(u, other));
  }
  __device__ __forceinline__ bool present(int u, int other) const {
    return u * kStep < columns && other + 1 < mailboxes.ranks;
  }
  __device__ __forceinline__ uint32_t* cell(int u, int other) const {
    return place + other * mailboxes.capacity + wordsOf<P>(u * kStep);
  }
  // Until all are full. Once the host says so, nothing is waited for any more.
  __device__ __forceinline__ void wait(bool& stopped) {
#pragma unroll 1
    for (int polls = 1;; ++polls) {
      bool waits = false;
#pragma unroll
      for (int u = 0; u < kUnits; ++u)
#pragma unroll
        for (int other = 0; other < kOthers; ++other) {
          if (!present(u, other) || !isEmpty(found[u][other])) continue;
          waits = true;
          found[u][other] = loadRelaxedSystem16(cell(u, other));
        }
      if (polls % kPollsBetweenLooks == 0) stopped = stopped || loadRelaxedSystem(mailboxes.stop) != 0;
      if (!waits || stopped) return;
      spinPause();
    }
  }
  __device__ __forceinline__ void empty() const {
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
#pragma unroll
      for (int other = 0; other < kOthers; ++other)
        if (present(u, other)) storeRelaxedSystem16(cell(u, other), make_uint4(kEmpty, kEmpty, kEmpty, kEmpty));
  }
  // Adds all ranks' parts in their order. `own` is this rank's part.
  __device__ __forceinline__ Columns<P> sum(int u, const uint4& own) const {
    Columns<P> sum = Columns<P>::zeros();
#pragma unroll
    for (int rank = 0; rank <= kOthers; ++rank) {
      if (rank > 0 && !present(u, rank - 1)) break;
      // Behind this rank's own place all others are one further.
      uint4 part = own;
      if (rank < kOthers && rank < mailboxes.rank) part = found[u][rank];
      if (rank > 0 && rank > mailboxes.rank) part = found[u][rank - 1];
      sum.add(Columns<P>(part));
    }
    return sum;
  }
};

// The links to other ranks are busy meanwhile, and the memory is idle.
__device__ __forceinline__ void fetch(const unsigned char* from, uint32_t bytes) {
  constexpr uint32_t kPiece = 4096;
#pragma unroll 1
  for (uint32_t at = (blockIdx.x * kSumThreads + threadIdx.x) * kPiece; at < bytes;
       at += gridDim.x * kSumThreads * kPiece)
    prefetchL2(from + at, min(kPiece, bytes - at));
}

struct PushShared {
  NormShared norm;
  uint32_t doneBefore;  // stretches of the row
};

// Whether the row's other stretches are done, whose sums are seen then. All threads of the block call it.
__device__ __forceinline__ bool completesRow(uint32_t* done, int stretches, PushShared& shared) {
  __syncthreads();
  if (stretches == 1) return true;
  if (threadIdx.x == 0) shared.doneBefore = ticket(done);
  __syncthreads();
  if (shared.doneBefore + 1 != static_cast<uint32_t>(stretches)) return false;
  if (threadIdx.x == 0) *done = 0;  // for the next launch
  return true;
}

// kOthers: at least as many as there are other ranks; kUnits: loads of each that are under way at once.
template <typename T, typename P, int kOthers, int kUnits>
__global__ void __launch_bounds__(kSumThreads, 2)
    sumPushedKernel(SummedRows<P> rows, Division division, Mailboxes mailboxes) {
  constexpr int kQuads = Columns<P>::kQuads;
  PushShared& shared = sharedMemory<PushShared>();
  pdlWait();
  const uint32_t sumsBefore = mailboxes.counts->sums;
  const int64_t half = static_cast<int64_t>(sumsBefore % 2) * (mailboxes.ranks - 1) * mailboxes.capacity;
  const int blocks = static_cast<int>(gridDim.x), count = rows.rows * division.stretches;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < count; index += blocks)
    push<kOthers, kUnits>(rows, division.stretch(rows, index), half, mailboxes);
  fetch(rows.fetched, rows.fetchedBytes);
  bool stopped = false;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < count; index += blocks) {
    const Stretch<P> stretch = division.stretch(rows, index);
    uint32_t* parts = mailboxes.inbox + half + wordsOf<P>(static_cast<int64_t>(stretch.row) * rows.stride);
    const auto sumUp = [&](int first, const uint4(&own)[kUnits], float4(&sums)[kUnits][kQuads]) {
      Cells<P, kOthers, kUnits> cells(mailboxes, parts + wordsOf<P>(first), stretch.end - first);
      cells.wait(stopped);
      cells.empty();
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const Columns<P> sum = cells.sum(u, own[u]);
#pragma unroll
        for (int i = 0; i < kQuads; ++i) sums[u][i] = sum.quads[i];
      }
    };
    storeSums<kUnits>(rows, stretch, sumUp);
    if (index + blocks >= count) pdlTrigger();
    if (rows.narrow && completesRow(mailboxes.counts->stretches + stretch.row, division.stretches, shared))
      normalizeRow<T>(rows, stretch.row, shared.norm);
  }
  __syncthreads();
  if (threadIdx.x != 0 || ticket(&mailboxes.counts->sumBlocks) + 1 != gridDim.x) return;
  mailboxes.counts->sumBlocks = 0;
  mailboxes.counts->sums = sumsBefore + 1;
}

__global__ void __launch_bounds__(kSumThreads) emptyKernel(uint32_t* box, int64_t count) {
  pdlWait();
  pdlTrigger();
  const int64_t cell = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * kWords;
  if (cell < count) storeRelaxedSystem16(box + cell, make_uint4(kEmpty, kEmpty, kEmpty, kEmpty));
}

// Stretches of a row are as many as there are blocks for, unless they get short.
Division divisionOf(const RankSum& sum, int64_t blocks) {
  constexpr int64_t kLeastCols = 512;
  const int64_t most = std::max<int64_t>(1, blocks / sum.rows);
  const int64_t cols = std::max(kLeastCols, padTo((sum.cols + most - 1) / most, kColumnStep));
  return {static_cast<int>((sum.cols + cols - 1) / cols), static_cast<int>(cols)};
}

// Half of the L2 cache at most, of which each rank on the device gets its share.
uint32_t fetchedBytes(const RankSum& sum, int sharers) {
  if (sum.fetched == nullptr) return 0;
  const auto room = static_cast<size_t>(deviceAttribute(cudaDevAttrL2CacheSize) / 2 / sharers);
  return static_cast<uint32_t>(std::min(sum.fetchedBytes, room) / 16 * 16);
}

template <typename T, typename P>
void sumPushedTyped(const RankSum& sum, const Mailboxes& mailboxes) {
  constexpr int kFewer = std::is_same_v<P, float> ? 1 : 2;  // accesses for as many columns
  const int64_t room = std::clamp(multiprocessors() / mailboxes.sharers, 1, kMostPushBlocks);
  const Division division = divisionOf(sum, room);
  const int64_t blocks = std::min(room, sum.rows * division.stretches);
  const LaunchConfig config{"sumPushed", dim3(static_cast<unsigned>(blocks)), dim3(kSumThreads), sizeof(PushShared),
                            sum.stream};
  SummedRows<P> rows(sum);
  rows.fetchedBytes = fetchedBytes(sum, mailboxes.sharers);
  if (mailboxes.ranks <= 2)
    launch(sumPushedKernel<T, P, 1, 4 / kFewer>, config, rows, division, mailboxes);
  else if (mailboxes.ranks <= 4)
    launch(sumPushedKernel<T, P, 3, 2 / kFewer>, config, rows, division, mailboxes);
  else
    launch(sumPushedKernel<T, P, 7, 1>, config, rows, division, mailboxes);
}

}  // namespace

size_t mailboxBytes(int ranks, int64_t capacity) {
  return static_cast<size_t>(2 * (ranks - 1) * capacity) * sizeof(uint32_t);
}

Mailboxes connectMailboxes(int rank, int ranks, int64_t capacity, uint32_t* const* boxes) {
  Mailboxes mailboxes;
  mailboxes.rank = rank;
  mailboxes.ranks = ranks;
  mailboxes.capacity = capacity;
  mailboxes.inbox = boxes[rank];
  for (int i = 0; i + 1 < ranks; ++i) {
    const int other = (rank + 1 + i) % ranks;
    mailboxes.outboxes[i] = boxes[other] + (rank < other ? rank : rank - 1) * capacity;
  }
  return mailboxes;
}

void emptyMailbox(uint32_t* box, size_t bytes, cudaStream_t stream) {
  const auto count = static_cast<int64_t>(bytes / sizeof(uint32_t));
  if (count == 0) return;
  constexpr int64_t kWordsABlock = static_cast<int64_t>(kSumThreads) * kWords;
  const auto blocks = static_cast<unsigned>((count + kWordsABlock - 1) / kWordsABlock);
  launch(emptyKernel, {"emptyMailbox", dim3(blocks), dim3(kSumThreads), 0, stream}, box, count);
}

void sumPushed(const RankSum& sum, const Mailboxes& mailboxes) {
  if (sum.rows <= 0) return;
  withSumTypes(sum, [&]<typename T, typename P>() { sumPushedTyped<T, P>(sum, mailboxes); });
}

}  // namespace shardspeed::cuda
