#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "comm/frame.h"
#include "comm/group.h"

namespace shardspeed {

// How a group of processes has ended: with a reason where it failed.
struct Ending {
  bool failed;
  std::string reason;
};

// What has come to a rank of a group of processes and was not taken yet. Has no lock of its own.
class Inbox {
 public:
  Inbox(int rank, int size);

  // Takes a frame that came from the rank `peer`. An ending where the frame ends the group, or is none that could come.
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
