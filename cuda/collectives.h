#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "comm/group.h"
#include "cuda/all_reduce.h"
#include "cuda/gather_logits.h"
#include "cuda/group_watch.h"
#include "cuda/memory.h"
#include "cuda/nccl.h"
#include "cuda/peers.h"

namespace shardspeed::cuda {

// What the ranks of a tensor-parallel group do together, of which this is one's: pushed, where ranks are threads of one
// process and their devices reach each other's memory, as far as messages are small; else by NCCL. Which way a sum
// takes depends on its size and on what all ranks have agreed on, and changes none of its bits.
//
// Calls only enqueue work, and may be captured. Where the group ends, everything that waits for another rank stops
// waiting: results mean nothing then, and Group::check() says why.
class Collectives {
 public:
  // Collective. ERR_COMM where there is no way between the ranks' devices. maxRows of the shapes is that of a step,
  // without what a graph adds to it. partDtype: of partial().
  Collectives(int device, Group& group, const GroupShapes& shapes, DType partDtype, const Stream& stream);
  ~Collectives();
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  // (rows of a step, padded cols) of partDtype() for this rank's part of a sum. Its padding stays zeros.
  void* partial() const { return partDtype_ == DType::kF32 ? wide_.as() : narrow_.as(); }
  DType partDtype() const { return partDtype_; }
  // sum.in is partial(), or sum.x and fp32.
  void sum(RankSum sum);
  // part: (rows, padded cols of the rank); whole: (rows, wholeStride), null but on rank 0.
  void gather(int64_t rows, const float* part, float* whole, int64_t wholeStride);
  // Whether NCCL takes part, whose work must be captured by all ranks or by none.
  bool usesNccl() const { return nccl_ != nullptr; }
  // Ends all waiting for other ranks. From any thread.
  void stop();

  // Of device memory; what is planned with, where the way that is taken may yet need less.
  static size_t bytesOf(const GroupShapes& shapes, int rank, DType partDtype);

 private:
  struct Agreement {
    bool pushes = false;
    bool nccl = false;
    int64_t pushBytes = 0;
  };
  struct Plan;
  Agreement agree(const std::vector<RankFacts>& facts) const;
  void prepareMemory(const Plan& plan, const std::vector<RankFacts>& facts);
  // When all ranks' memory is there.
  void connect();
  void connectPushes();
  void describeParts();
  int64_t pushRows(const RankSum& sum) const;
  void sumByNccl(RankSum sum);
  void keepPace();

  Group& group_;
  const Stream& stream_;
  GroupShapes shapes_;
  PinnedMemory stopWord_;
  DType partDtype_;
  DeviceMemory wide_;    // fp32 parts of sums, or slices of them
  DeviceMemory narrow_;  // parts where they are not fp32
  DeviceMemory received_;
  DeviceMemory parts_;  // LogitPart (ranks), on rank 0
  std::shared_ptr<PeerMemory> peers_;
  Mailboxes mailboxes_;
  int64_t pushWords_ = 0;  // of a part, that are pushed at once
  bool pushes_ = false;
  int leastMultiprocessors_ = 1;
  int sharers_ = 0;                    // ranks on this rank's device
  std::vector<LogitPart> logitParts_;  // by rank, as rank 0 sees them
  std::unique_ptr<Nccl> nccl_;
  Event pace_[2];
  int calls_ = 0;
  std::unique_ptr<GroupWatch> watch_;  // last: it uses all of the above
};

}  // namespace shardspeed::cuda
