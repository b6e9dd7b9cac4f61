#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.h"
#include "cuda/projection.h"

// Sums over the ranks of a tensor-parallel group, together with what follows them: bias, residual sum and the next
// norm.

namespace shardspeed::cuda {

// x (+)= the sum of all ranks' `in` + bias, in the order of the ranks: ((in of 0 + in of 1) + in of 2) and so on, so
// that a row has the same bits on every rank, however many rows there are and whichever way the ranks' parts came.
struct RankSum {
  DType dtype = DType::kF16;  // T
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;                // of in, x and narrow, in elements: padTo(cols, kColumnStep), the padding zeros
  DType partDtype = DType::kF32;     // of in, and of what ranks give each other: fp32, or that of T
  const void* in = nullptr;          // (rows, stride), this rank's part; may be x
  const float* bias = nullptr;       // (padded cols) or null
  float* x = nullptr;                // (rows, stride)
  bool residual = false;             // x += instead of x =
  const NormParams* next = nullptr;  // where set, narrow = T(norm(x)) as well
  void* narrow = nullptr;            // T (rows, stride)
  // Memory that the product behind reads, 16-byte pieces: sumPushed brings it to the L2 cache, or its beginning, while
  // it waits.
  const void* fetched = nullptr;
  size_t fetchedBytes = 0;
  cudaStream_t stream = nullptr;
};

// --- Pushed: every rank stores its part in the memory of all others, which wait for it there.

constexpr int kMostPushRanks = 8;
constexpr int kMostPushBlocks = 64;

// Counts of what a rank has done, in its own memory: captured launches go on counting when they are replayed. They wrap
// around.
struct PushCounts {
  uint32_t sums = 0;
  uint32_t sumBlocks = 0;  // that are done with the sum under way
  uint32_t gathers = 0;
  uint32_t gatherBlocks = 0;
  // The number of stretches that are done, of each row of the sum under way that has two or more.
  uint32_t stretches[kMostPushBlocks / 2] = {};
};

// Where ranks put their parts for each other. A rank's mailbox is (2, ranks - 1, capacity) words of 32 bits: two sums
// take turns, and every other rank has a place, in the order of the ranks. What lies there says itself whether it has
// come: -0.0 says that nothing has. So parts need no flags beside them; a part's own -0.0 is sent as 0.0.
struct Mailboxes {
  int rank = 0;
  int ranks = 0;                                // <= kMostPushRanks
  int sharers = 1;                              // ranks on this rank's device: their blocks have to run at once
  int64_t capacity = 0;                         // words that a rank can send at once, a multiple of 4
  uint32_t* inbox = nullptr;                    // this rank's mailbox
  uint32_t* outboxes[kMostPushRanks - 1] = {};  // this rank's place in those of the others, the next rank's first
  PushCounts* counts = nullptr;
  const uint32_t* stop = nullptr;  // of the host: once it is not 0 nothing is waited for, and sums are meaningless
};
// This rank's, given all ranks' mailboxes.
Mailboxes connectMailboxes(int rank, int ranks, int64_t capacity, uint32_t* const* boxes);
size_t mailboxBytes(int ranks, int64_t capacity);
// Makes a mailbox of device memory, on the stream.
void emptyMailbox(uint32_t* box, size_t bytes, cudaStream_t stream);

// The rows' parts take no more words than capacity. All ranks call it for as many rows, in the same order.
void sumPushed(const RankSum& sum, const Mailboxes& mailboxes);

// --- Received: the other ranks' parts are in this rank's memory already.

struct Received {
  int rank = 0;
  int ranks = 1;
  const void* parts = nullptr;  // (ranks - 1, stride): of all ranks but this one, in order, of the type of this one's
  int64_t stride = 0;           // elements from one to the next, a multiple of 8
};
void sumReceived(const RankSum& sum, const Received& received);
// out[i] = the sum of all ranks' in[i], for i < count, a multiple of 8; out may be in.
void sumSlice(DType dtype, const void* in, float* out, int64_t count, const Received& received, cudaStream_t stream);

}  // namespace shardspeed::cuda
