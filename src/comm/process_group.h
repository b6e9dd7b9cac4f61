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
  int listener = -1;       // rank 0: the descriptor of openControlListener(); taken over, and closed in every case
  std::string leaderHost;  // the others: where that listens
  uint16_t leaderPort = 0;
  std::array<uint8_t, 32> key{};  // known to all ranks of the group and to nobody else; it is never sent
  // A rank that is not heard of for as long is gone. All ranks send something at least eight times as often.
  int64_t silenceLimitMs = 10000;
  int64_t connectLimitMs = 60000;           // until all ranks are connected
  const std::atomic<bool>* stop = nullptr;  // set by another thread: connecting ends with Error("ERR_ABORTED")
  // Called once, by whichever thread ends the group (one of a call of the owner, or the group's own), when over() is
  // true. Not called by the destructor. Must not throw, nor destroy the group.
  std::function<void()> onOver;
};

// A group whose ranks are processes, of one host or several: each has a TCP connection to rank 0 and a thread that
// watches it, so that the group ends on all ranks when one is killed, stopped or cut off, whatever the others do then.
// Returns when all ranks are connected. Throws Error: ERR_COMM, ERR_ABORTED, ERR_OUT_OF_MEMORY (no thread).
//
// fail() of any rank and end() of any rank reach all. What fail() is told is prefixed by "rank N has failed: " unless
// it begins with "rank " itself. A group that is destroyed before its end fails everywhere else ("rank N has left").
// After an end the destructor gives what is on its way a second to arrive.
std::unique_ptr<Group> makeProcessGroup(const ProcessGroupOptions& options);

}  // namespace shardspeed
