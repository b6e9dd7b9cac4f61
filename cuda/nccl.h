#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/dtype.h"
#include "comm/group.h"
#include "cuda/nccl_api.h"

// What ranks send each other by NVIDIA's NCCL, where it is installed: between processes, between hosts, and where
// messages are too large to be pushed. Only data is moved. Sums are our own (cuda/all_reduce.h), since those of NCCL
// add up in an order that depends on where a number lies in the message, and so on how many rows it has.

namespace shardspeed::cuda {

// The library's functions. Null where it is not installed, or older than what we know how to call; whyNot then says
// what was tried. Loaded once a process.
const NcclApi* findNccl(std::string* whyNot);
// For tests: what findNccl() finds from now on; null = the library again.
void replaceNccl(const NcclApi* api);
// Such as 22809.
int ncclVersion(const NcclApi& api);

// One rank's end of a group. Failures are ERR_COMM, with NCCL's words; where the group ends while something is waited
// for here, that is what is thrown (Group::check). All but abort() are called by one thread.
class Nccl {
 public:
  // For rank 0; the others get it from there.
  static NcclId makeId(const NcclApi& api);
  // Waits for all ranks.
  Nccl(const NcclApi& api, const NcclId& id, const Group& group);
  ~Nccl();
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  // Sends `count` elements to every other rank, to rank p those at from + p * step, and receives as many from each:
  // into `received`, in the order of the ranks, without this one's place.
  void exchange(DType dtype, const void* from, int64_t step, void* received, int64_t count, cudaStream_t stream);
  // buffer + p * count ... becomes, on all ranks, what rank p has there.
  void shareParts(float* buffer, int64_t count, cudaStream_t stream);
  // Rank 0 receives counts[p] floats from every other rank p at to[p]; those send what they have at `from`.
  void bringToFirst(const float* from, float* const* to, const int64_t* counts, cudaStream_t stream);

  // Ends what is under way, also on the device. From any thread; later calls throw. It waits for nobody, which is why
  // it also ends a group that has done its work.
  void abort();

 private:
  template <typename Body>
  void together(const char* operation, Body body);
  void check(NcclStatus status, const char* operation) const;
  // Until what was begun is on the stream.
  void settle(const char* operation);

  const NcclApi& api_;
  const Group& group_;
  std::mutex mutex_;  // of comm_
  NcclComm* comm_ = nullptr;
};

}  // namespace shardspeed::cuda
