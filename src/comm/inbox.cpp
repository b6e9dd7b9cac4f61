#include "comm/inbox.h"

#include <utility>

namespace shardspeed {

namespace {

constexpr size_t kMostUnreadBytes = size_t{64} << 20;  // of several messages that wait for receive()
constexpr size_t kMessageCost = 64;  // counted beside its bytes, so that empty messages cannot pile up for ever

}  // namespace

Inbox::Inbox(int rank, int size) : rank_(rank), size_(size), parts_(static_cast<size_t>(size)) {}

std::optional<Ending> Inbox::take(int peer, Frame& frame) {
  switch (frame.header.kind) {
    case FrameKind::kHeartbeat:
      return std::nullopt;
    case FrameKind::kEnd:
      return Ending{false, ""};
    case FrameKind::kFail:
      return Ending{true, std::string(frame.payload.begin(), frame.payload.end())};
    case FrameKind::kMessage:
      if (rank_ == 0) break;
      return takeMessage(frame.payload);
    case FrameKind::kExchange:
      if (!takePart(peer, frame)) break;
      return std::nullopt;
    default:
      break;
  }
  return Ending{true, "rank " + std::to_string(peer) + " cannot be understood: it sent a message out of turn"};
}

std::optional<Ending> Inbox::takeMessage(Group::Bytes& message) {
  messageBytes_ += message.size() + kMessageCost;
  messages_.push_back(std::move(message));
  // A single message may be larger.
  if (messages_.size() == 1 || messageBytes_ <= kMostUnreadBytes) return std::nullopt;
  return Ending{true, "rank " + std::to_string(rank_) +
                          " does not receive the messages of rank 0: " + std::to_string(messages_.size()) + " wait"};
}

Group::Bytes Inbox::nextMessage() {
  Group::Bytes message = std::move(messages_.front());
  messages_.pop_front();
  messageBytes_ -= message.size() + kMessageCost;
  return message;
}

// A rank is at most one part ahead: rank 0 sends nothing before it has all parts, and the others begin the next
// exchange when they have all parts of this one.
bool Inbox::takePart(int peer, Frame& frame) {
  const int from = frame.header.rank;
  if (rank_ == 0 ? from != peer : (!exchanging_ || from >= size_ || from == rank_)) return false;
  std::optional<Group::Bytes>& part = parts_[static_cast<size_t>(from)];
  if (part) return false;
  part = std::move(frame.payload);
  ++partCount_;
  return true;
}

std::vector<Group::Bytes> Inbox::takeParts() {
  std::vector<Group::Bytes> taken;
  for (auto& part : parts_) taken.push_back(part ? std::move(*part) : Group::Bytes{});
  for (auto& part : parts_) part.reset();
  partCount_ = 0;
  exchanging_ = false;
  return taken;
}

}  // namespace shardspeed
