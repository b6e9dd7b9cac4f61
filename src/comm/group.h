#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace shardspeed {

// Of a group: lib/loading/sharding.ts refuses larger ones before anything is loaded.
constexpr int kMostRanks = 64;

// Thrown in a rank that waits when the group ends without a failure: rank 0 has finished.
struct GroupEnded {};

// The ranks that compute one model together, as one of them sees it: threads of a process (thread_group.h) or processes
// (process_group.h). Rank 0 drives: it decides what is computed, the others follow.
//
// A group ends once, for all ranks: by end(), or by fail(), which every rank may call and which a process group calls
// itself when a rank is gone. From then on every call that waits, in any rank, throws GroupEnded, or Error("ERR_COMM")
// with the reason given to fail(); no call waits for ever for a rank that does not come. Collective calls (all but
// send, receive, end, fail and check) are made by all ranks in the same order, from one thread a rank.
class Group {
 public:
  using Bytes = std::vector<uint8_t>;

  virtual ~Group() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Rank 0 only: sends a message to all others. Does not wait for them.
  virtual void send(const Bytes& message) = 0;
  // All others: the next message of rank 0, in the order sent.
  virtual Bytes receive() = 0;
  // Collective. Returns every rank's bytes, by rank.
  virtual std::vector<Bytes> exchange(const Bytes& mine) = 0;
  // Collective, with the same size: zeroed memory that all ranks see, aligned to a page. It has no name in the file
  // system, so nothing is left behind. ERR_COMM if ranks are on different hosts.
  virtual std::shared_ptr<uint8_t> shareMemory(size_t bytes) = 0;

  // Ends the group, its work done. Only the first of end() and fail() counts; both may be called from any thread.
  virtual void end() = 0;
  virtual void fail(const std::string& reason) = 0;

  // Whether the group has ended, for loops that wait for other ranks without blocking: one load of an atomic.
  bool over() const { return over_.load(std::memory_order_acquire); }
  // Throws GroupEnded or Error("ERR_COMM") if the group has ended.
  virtual void check() const = 0;

 protected:
  std::atomic<bool> over_{false};
};

}  // namespace shardspeed
