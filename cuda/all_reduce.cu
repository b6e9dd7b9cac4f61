#include "cuda/all_reduce.h"

#include <algorithm>

#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/norm.cuh"
#include "cuda/projection_paths.h"
#include "cuda/ptx.cuh"

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
// it cannot fill a device on which others still have to begin. Within a rank no block waits for another.

namespace shardspeed::cuda {

namespace {

constexpr int kThreads = kNormThreads;
constexpr int kUnit = 4;                  // columns of a 16-byte access
constexpr int kStep = kThreads * kUnit;   // columns of a row that a block has in one access each
constexpr uint32_t kEmpty = 0x80000000u;  // -0.0
constexpr int kPollsBetweenLooks = 64;    // at what the host says

// RankSum as a kernel's argument.
struct Rows {
  int rows = 0;
  int cols = 0;
  int stride = 0;
  const float* in = nullptr;
  const float* bias = nullptr;
  float* x = nullptr;
  bool residual = false;
  RowNorm next;
  void* narrow = nullptr;

  explicit Rows(const RankSum& sum)
      : rows(static_cast<int>(sum.rows)),
        cols(static_cast<int>(sum.cols)),
        stride(static_cast<int>(sum.stride)),
        in(sum.in),
        bias(sum.bias),
        x(sum.x),
        residual(sum.residual),
        next(sum.next),
        narrow(sum.narrow) {}
};

__device__ __forceinline__ float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}

__device__ __forceinline__ float4 add4(const float4& a, const float4& b) {
  return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w));
}

__device__ __forceinline__ float4 asFloats(const uint4& bits) {
  return make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                     __uint_as_float(bits.w));
}

__device__ __forceinline__ uint4 asBits(const float4& values) {
  return make_uint4(__float_as_uint(values.x), __float_as_uint(values.y), __float_as_uint(values.z),
                    __float_as_uint(values.w));
}

// Columns of a row that a block sums up.
struct Stretch {
  int row = 0;
  int first = 0;
  int end = 0;

  __device__ __forceinline__ int firstOfThread() const { return first + kUnit * static_cast<int>(threadIdx.x); }
};

// Stores the stretch's sums with all that is added to them: sumUp(first, own, sums) finds those of columns
// first + u * kStep of this thread, given its rank's parts of them. Columns from the stretch's end on are not looked
// at.
template <int kUnits, typename SumUp>
__device__ __forceinline__ void storeSums(const Rows& rows, const Stretch& stretch, SumUp sumUp) {
  const int64_t offset = static_cast<int64_t>(stretch.row) * rows.stride;
  const float* in = rows.in + offset;
  float* x = rows.x + offset;
#pragma unroll 1
  for (int first = stretch.firstOfThread(); first < stretch.end; first += kUnits * kStep) {
    float4 own[kUnits], old[kUnits], sums[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int col = first + u * kStep;
      own[u] = old[u] = make_float4(0, 0, 0, 0);
      if (col >= stretch.end) continue;
      own[u] = load4(in + col);
      if (rows.residual) old[u] = load4(x + col);
    }
    sumUp(first, own, sums);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const int col = first + u * kStep;
      if (col >= stretch.end) continue;
      float4 value = sums[u];
      if (rows.bias) value = add4(value, load4(rows.bias + col));
      if (rows.residual) value = add4(old[u], value);
      *reinterpret_cast<float4*>(x + col) = value;
    }
  }
}

// Behind a barrier, when the row's sums are there. Ends with one, so that `shared` may be used again.
template <typename T>
__device__ __forceinline__ void normalizeRow(const Rows& rows, int row, NormShared& shared) {
  const int64_t offset = static_cast<int64_t>(row) * rows.stride;
  T* narrow = static_cast<T*>(rows.narrow) + offset;
  normalize<1>(rows.x + offset, 0, 1, rows.cols, rows.stride, rows.next, shared,
               [&](int, int col, const float(&values)[4]) {
                 *reinterpret_cast<uint2*>(narrow + col) =
                     make_uint2(pack2<T>(values[0], values[1]), pack2<T>(values[2], values[3]));
               });
  __syncthreads();
}

__device__ __forceinline__ bool isEmpty(const uint4& cell) {
  return cell.x == kEmpty || cell.y == kEmpty || cell.z == kEmpty || cell.w == kEmpty;
}

// How a sum is divided among the blocks of a launch.
struct Division {
  int stretches = 1;  // of a row; more than one only where each block has one stretch of one row
  int cols = 0;       // of a stretch, a multiple of kUnit

  __device__ __forceinline__ Stretch stretch(const Rows& rows, int index) const {
    const int row = index / stretches, first = index % stretches * cols;
    return {row, first, min(first + cols, rows.cols)};
  }
};

// Stores this rank's part of a stretch with all others. half: where this turn's places begin, from that of the other.
template <int kOthers, int kUnits>
__device__ __forceinline__ void push(const Rows& rows, const Stretch& stretch, int64_t half,
                                     const Mailboxes& mailboxes) {
  const int64_t offset = static_cast<int64_t>(stretch.row) * rows.stride;
  const float* in = rows.in + offset;
  const float4 zeros = make_float4(0, 0, 0, 0);
#pragma unroll 1
  for (int first = stretch.firstOfThread(); first < stretch.end; first += kUnits * kStep) {
    float4 own[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      if (first + u * kStep < stretch.end) own[u] = add4(load4(in + first + u * kStep), zeros);  // of -0.0 it makes 0.0
#pragma unroll
    for (int other = 0; other < kOthers; ++other) {
      if (other + 1 >= mailboxes.ranks) break;
      float* place = mailboxes.outboxes[other] + half + offset;
#pragma unroll
      for (int u = 0; u < kUnits; ++u)
        if (first + u * kStep < stretch.end) storeRelaxedSystem16(place + first + u * kStep, asBits(own[u]));
    }
  }
}

// Waits until the cell is full; what it then holds. Once the host says so, nothing is waited for any more.
__device__ __forceinline__ uint4 waitFor(const float* cell, uint4 found, const uint32_t* stop, bool& stopped) {
  for (int polls = 1; isEmpty(found) && !stopped; ++polls) {
    if (polls % kPollsBetweenLooks == 0) stopped = loadRelaxedSystem(stop) != 0;
    spinPause();
    found = loadRelaxedSystem16(cell);
  }
  return found;
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
template <typename T, int kOthers, int kUnits>
__global__ void __launch_bounds__(kThreads, 2) sumPushedKernel(Rows rows, Division division, Mailboxes mailboxes) {
  PushShared& shared = sharedMemory<PushShared>();
  pdlWait();
  const uint32_t sumsBefore = mailboxes.counts->sums;
  const int64_t half = static_cast<int64_t>(sumsBefore % 2) * (mailboxes.ranks - 1) * mailboxes.capacity;
  const int blocks = static_cast<int>(gridDim.x), count = rows.rows * division.stretches;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < count; index += blocks)
    push<kOthers, kUnits>(rows, division.stretch(rows, index), half, mailboxes);
  bool stopped = false;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < count; index += blocks) {
    const Stretch stretch = division.stretch(rows, index);
    float* parts = mailboxes.inbox + half + static_cast<int64_t>(stretch.row) * rows.stride;
    const auto sumUp = [&](int first, const float4(&own)[kUnits], float4(&sums)[kUnits]) {
      const auto present = [&](int u, int other) {
        return first + u * kStep < stretch.end && other + 1 < mailboxes.ranks;
      };
      uint4 found[kUnits][kOthers];
#pragma unroll
      for (int u = 0; u < kUnits; ++u)
#pragma unroll
        for (int other = 0; other < kOthers; ++other)
          if (present(u, other))
            found[u][other] = loadRelaxedSystem16(parts + other * mailboxes.capacity + first + u * kStep);
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        sums[u] = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int rank = 0; rank <= kOthers; ++rank) {
          if (rank == mailboxes.rank) sums[u] = add4(sums[u], own[u]);
          if (rank == kOthers || !present(u, rank)) continue;
          // The rank-th of the others; behind this rank's own place all are one further.
          float* cell = parts + rank * mailboxes.capacity + first + u * kStep;
          found[u][rank] = waitFor(cell, found[u][rank], mailboxes.stop, stopped);
          storeRelaxedSystem16(cell, make_uint4(kEmpty, kEmpty, kEmpty, kEmpty));
          sums[u] = add4(sums[u], asFloats(found[u][rank]));
        }
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

// Adds up columns col ... col + 3 of all ranks' parts, `own` being this rank's; others: of the rank after it in order.
__device__ __forceinline__ float4 sumOfRanks(const Received& received, const float4& own, int64_t col) {
  float4 sum = make_float4(0, 0, 0, 0);
  const float* from = received.parts + col;
#pragma unroll 4
  for (int rank = 0; rank < received.ranks; ++rank) {
    const bool mine = rank == received.rank;
    const float4 part = mine ? own : load4(from);
    if (!mine) from += received.stride;
    sum = add4(sum, part);
  }
  return sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads) sumReceivedKernel(Rows rows, Received received) {
  NormShared& shared = sharedMemory<NormShared>();
  pdlWait();
  const int row = static_cast<int>(blockIdx.x);
  const int64_t offset = static_cast<int64_t>(row) * rows.stride;
  storeSums<1>(rows, {row, 0, rows.cols}, [&](int first, const float4(&own)[1], float4(&sums)[1]) {
    sums[0] = sumOfRanks(received, own[0], offset + first);
  });
  pdlTrigger();
  if (!rows.narrow) return;
  __syncthreads();
  normalizeRow<T>(rows, row, shared);
}

__global__ void __launch_bounds__(kThreads) sumSliceKernel(float* in, int64_t count, Received received) {
  pdlWait();
  pdlTrigger();
  const int64_t col = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kUnit;
  if (col >= count) return;
  *reinterpret_cast<float4*>(in + col) = sumOfRanks(received, load4(in + col), col);
}

__global__ void __launch_bounds__(kThreads) emptyKernel(float* box, int64_t count) {
  pdlWait();
  pdlTrigger();
  const int64_t cell = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kUnit;
  if (cell < count) storeRelaxedSystem16(box + cell, make_uint4(kEmpty, kEmpty, kEmpty, kEmpty));
}

unsigned blocksFor(int64_t units) {
  return static_cast<unsigned>((units + kThreads - 1) / kThreads);
}

// Stretches of a row are as many as there are blocks for, unless they get short.
Division divisionOf(const RankSum& sum, int64_t blocks) {
  constexpr int64_t kLeastCols = 512;
  const int64_t most = std::max<int64_t>(1, blocks / sum.rows);
  const int64_t cols = std::max(kLeastCols, padTo((sum.cols + most - 1) / most, kColumnStep));
  return {static_cast<int>((sum.cols + cols - 1) / cols), static_cast<int>(cols)};
}

template <typename T>
void sumPushedTyped(const RankSum& sum, const Mailboxes& mailboxes) {
  const int64_t room = std::clamp(multiprocessors() / mailboxes.sharers, 1, kMostPushBlocks);
  const Division division = divisionOf(sum, room);
  const int64_t blocks = std::min(room, sum.rows * division.stretches);
  const LaunchConfig config{"sumPushed", dim3(static_cast<unsigned>(blocks)), dim3(kThreads), sizeof(PushShared),
                            sum.stream};
  if (mailboxes.ranks <= 2)
    launch(sumPushedKernel<T, 1, 4>, config, Rows(sum), division, mailboxes);
  else if (mailboxes.ranks <= 4)
    launch(sumPushedKernel<T, 3, 2>, config, Rows(sum), division, mailboxes);
  else
    launch(sumPushedKernel<T, 7, 1>, config, Rows(sum), division, mailboxes);
}

}  // namespace

size_t mailboxBytes(int ranks, int64_t capacity) {
  return static_cast<size_t>(2 * (ranks - 1) * capacity) * sizeof(float);
}

Mailboxes connectMailboxes(int rank, int ranks, int64_t capacity, float* const* boxes) {
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

void emptyMailbox(float* box, size_t bytes, cudaStream_t stream) {
  const auto count = static_cast<int64_t>(bytes / sizeof(float));
  if (count == 0) return;
  launch(emptyKernel, {"emptyMailbox", dim3(blocksFor(count / kUnit)), dim3(kThreads), 0, stream}, box, count);
}

void sumPushed(const RankSum& sum, const Mailboxes& mailboxes) {
  if (sum.rows <= 0) return;
  if (sum.dtype == DType::kF16)
    sumPushedTyped<__half>(sum, mailboxes);
  else
    sumPushedTyped<__nv_bfloat16>(sum, mailboxes);
}

void sumReceived(const RankSum& sum, const Received& received) {
  if (sum.rows <= 0) return;
  const LaunchConfig config{"sumReceived", dim3(static_cast<unsigned>(sum.rows)), dim3(kThreads), sizeof(NormShared),
                            sum.stream};
  if (sum.dtype == DType::kF16)
    launch(sumReceivedKernel<__half>, config, Rows(sum), received);
  else
    launch(sumReceivedKernel<__nv_bfloat16>, config, Rows(sum), received);
}

void sumSlice(float* in, int64_t count, const Received& received, cudaStream_t stream) {
  if (count <= 0) return;
  launch(sumSliceKernel, {"sumSlice", dim3(blocksFor(count / kUnit)), dim3(kThreads), 0, stream}, in, count, received);
}

}  // namespace shardspeed::cuda
