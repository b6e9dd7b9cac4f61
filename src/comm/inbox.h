#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "comm/frame.h"
#include "comm/group.h"

namespace shardspeed {

// The end of a group of processes; with a reason if it failed.
struct Ending {
  bool failed;
  std::string reason;
};

// Messages and parts of exchanges that a rank has received and not taken yet. Not thread-safe by itself.
class Inbox {
 public:
  Inbox(int rank, int size);

  // Takes a frame from the rank `peer`. Returns an ending if the frame ends the group, or breaks the protocol.
  std::optional<Ending> take(int peer, Frame& frame);

  bool hasMessage() const { return !messages_.empty(); }
  Group::Bytes nextMessage();

  // A rank other than 0 gets parts only between this and takeParts().
  void beginExchange() { exchanging_ = true; }
  bool hasAllParts() const { return partCount_ + 1 == parts_.size(); }
  // By rank, and empty for this one.
  std::vector<Group::Bytes> takeParts();

 private:
  std::optional<Ending> takeMessage(Group::Bytes& message);
  bool takePart(int peer, Frame& frame);

  const int rank_, size_;
  std::deque<Group::Bytes> messages_;
  size_t messageBytes_ = 0;
  std::vector<std::optional<Group::Bytes>> parts_;  // of the exchange under way, by rank
  size_t partCount_ = 0;
  bool exchanging_ = false;
};

}  // namespace shardspeed
