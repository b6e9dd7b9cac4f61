#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comm/group.h"
#include "comm/socket.h"

namespace shardspeed {

struct ProcessGroupOptions {
  int rank = 0;
  int size = 1;
  int listener = -1;       // rank 0: the descriptor of openControlListener(); always taken over and closed
  std::string leaderHost;  // the others: where rank 0 listens
  uint16_t leaderPort = 0;
  std::array<uint8_t, 32> key{};  // known to all ranks of the group and to nobody else; it is never sent
  // A rank that has been silent for longer is gone. All ranks send something at least eight times in that time.
  int64_t silenceLimitMs = 10000;
  int64_t connectLimitMs = 60000;           // until all ranks are connected
  const std::atomic<bool>* stop = nullptr;  // set by another thread: connecting ends with Error("ERR_ABORTED")
  // Called once when over() has become true, by the thread that ends the group: the owner's in a call, or the group's
  // own. Not called by the destructor. Must not throw, and must not destroy the group.
  std::function<void()> onOver;
};

// A group whose ranks are processes, of one host or several: each has a TCP connection to rank 0 and a thread that
// watches it, so that the group ends on all ranks when one is killed, stopped or cut off, whatever the others do at
// that time. Returns when all ranks are connected. Throws Error: ERR_COMM, ERR_ABORTED, ERR_OUT_OF_MEMORY (no thread).
//
// fail() and end() of any rank reach all. The reason given to fail() gets the prefix "rank N has failed: " unless it
// begins with "rank " itself. A group that is destroyed before its end fails everywhere else ("rank N has left").
// After an end the destructor waits up to a second for queued messages to arrive.
std::unique_ptr<Group> makeProcessGroup(const ProcessGroupOptions& options);

}  // namespace shardspeed
