#include "comm/link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace shardspeed {

namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr size_t kReadBytes = size_t{4} << 20;          // by one read(), so that one rank does not delay the others
constexpr size_t kMostWaitingBytes = size_t{64} << 20;  // of queued messages
constexpr size_t kFrameCost = 64;  // counted beside its payload, so that empty frames cannot pile up for ever

}  // namespace

Link::Link(Descriptor socket, int peer)
    : peer_(peer),
      socket_(std::move(socket)),
      buffer_(kBufferBytes),
      lastHeard_(Clock::now().time_since_epoch().count()) {}

bool Link::write(FrameKind kind, Payload payload, int rank) {
  const std::lock_guard<std::mutex> lock(writeMutex_);
  // A heartbeat behind other frames would say no more than they do.
  if (finished_ || (kind == FrameKind::kHeartbeat && !outgoing_.empty())) return true;
  return push(kind, std::move(payload), rank);
}

void Link::writeLast(FrameKind kind, Payload payload, bool urgent) {
  const std::lock_guard<std::mutex> lock(writeMutex_);
  if (finished_) return;
  if (urgent) {
    const bool begun = !outgoing_.empty() && outgoing_.front().done > 0;
    outgoing_.erase(outgoing_.begin() + (begun ? 1 : 0), outgoing_.end());
  }
  push(kind, std::move(payload), 0);
  finished_ = true;
}

bool Link::push(FrameKind kind, Payload payload, int rank) {
  const size_t bytes = payload ? payload->size() : 0;
  if (kind == FrameKind::kMessage) {
    // A single message may be larger.
    if (messageBytes_ > 0 && messageBytes_ + bytes + kFrameCost > kMostWaitingBytes) return false;
    messageBytes_ += bytes + kFrameCost;
  }
  // Queued before it is sent: if memory runs out here, no frame has been begun.
  outgoing_.push_back(
      {encodeHeader({kind, static_cast<uint16_t>(rank), static_cast<uint32_t>(bytes)}), std::move(payload)});
  if (outgoing_.size() == 1) flushLocked();
  waiting_.store(!outgoing_.empty(), std::memory_order_release);
  return true;
}

void Link::flush() {
  const std::lock_guard<std::mutex> lock(writeMutex_);
  flushLocked();
  waiting_.store(!outgoing_.empty(), std::memory_order_release);
}

void Link::flushLocked() {
  while (!outgoing_.empty()) {
    Outgoing& next = outgoing_.front();
    const size_t headerBytes = next.header.size(), payloadBytes = next.payload ? next.payload->size() : 0;
    const size_t headerDone = std::min(next.done, headerBytes), payloadDone = next.done - headerDone;
    // sendmsg() takes no pointer to constant bytes, though it only reads them.
    auto* payload = payloadBytes > 0 ? const_cast<uint8_t*>(next.payload->data()) + payloadDone : nullptr;
    iovec parts[2] = {{next.header.data() + headerDone, headerBytes - headerDone},
                      {payload, payloadBytes - payloadDone}};
    msghdr message{};
    message.msg_iov = parts, message.msg_iovlen = 2;
    const ssize_t sent = sendmsg(socket_.number(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
      writeError_.store(errno);
      outgoing_.clear();
      finished_ = true;
      return;
    }
    next.done += static_cast<size_t>(sent);
    if (next.done < headerBytes + payloadBytes) continue;
    if (next.header[1] == static_cast<uint8_t>(FrameKind::kMessage)) messageBytes_ -= payloadBytes + kFrameCost;
    outgoing_.pop_front();
  }
}

Link::State Link::read(std::vector<Frame>& frames) {
  for (size_t left = kReadBytes; left > 0 && state_ == State::kOpen;) {
    const size_t missing = frame_.payload.size() - payloadFilled_;
    size_t got;
    if (missing >= kBufferBytes) {
      got = receive(frame_.payload.data() + payloadFilled_, std::min(missing, left));
      payloadFilled_ += got;
      if (got > 0) consume(nullptr, 0, frames);
    } else {
      got = receive(buffer_.data(), buffer_.size());
      if (!consume(buffer_.data(), got, frames)) {
        state_ = State::kBroken;
        failure_ = "it sent bytes that are no message of this version";
      }
    }
    if (got == 0) break;
    left -= std::min(left, got);
  }
  // Everything that the other side sent before has been read.
  const int error = writeError_.load();
  if (state_ == State::kOpen && error != 0 && frames.empty()) {
    state_ = State::kClosed;
    failure_ = systemText(error);
  }
  return state_;
}

size_t Link::receive(uint8_t* to, size_t room) {
  for (;;) {
    const ssize_t got = recv(socket_.number(), to, room, MSG_DONTWAIT);
    if (got > 0) {
      lastHeard_.store(Clock::now().time_since_epoch().count());
      return static_cast<size_t>(got);
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return 0;
    state_ = State::kClosed;
    if (got < 0) failure_ = systemText(errno);
    return 0;
  }
}

void Link::excuse(Clock::duration time, Clock::time_point now) {
  Clock::rep heard = lastHeard_.load(), moved;
  // Not beyond now, where bytes came within that time: later silence counts from its beginning.
  do moved = std::min(heard + time.count(), now.time_since_epoch().count());
  while (moved > heard && !lastHeard_.compare_exchange_weak(heard, moved));
}

// Splits bytes into frames. False if they are none.
bool Link::consume(const uint8_t* bytes, size_t count, std::vector<Frame>& frames) {
  for (;;) {
    if (headerFilled_ < headerBytes_.size()) {
      const size_t taken = std::min(count, headerBytes_.size() - headerFilled_);
      if (taken > 0) std::memcpy(headerBytes_.data() + headerFilled_, bytes, taken);
      bytes += taken, count -= taken, headerFilled_ += taken;
      if (headerFilled_ < headerBytes_.size()) return true;
      const auto header = decodeHeader(headerBytes_);
      if (!header) return false;
      frame_.header = *header;
      payloadFilled_ = 0;
    }
    growPayload();
    const size_t taken = std::min(count, frame_.payload.size() - payloadFilled_);
    if (taken > 0) std::memcpy(frame_.payload.data() + payloadFilled_, bytes, taken);
    bytes += taken, count -= taken, payloadFilled_ += taken;
    if (payloadFilled_ == frame_.header.bytes) {
      frames.push_back(std::exchange(frame_, Frame{}));
      headerFilled_ = payloadFilled_ = 0;
    } else if (count == 0) {
      growPayload();
      return true;
    }
  }
}

// Memory grows with the bytes that have come, not with the number in a header.
void Link::growPayload() {
  if (payloadFilled_ < frame_.payload.size()) return;
  frame_.payload.resize(std::min<size_t>(frame_.header.bytes, std::max(4 * kBufferBytes, 2 * payloadFilled_)));
}

bool Link::drain() {
  if (closed_.load()) return true;
  flush();
  if (!waiting() && !silent_) {
    silent_ = true;
    shutdown(socket_.number(), SHUT_WR);
  }
  {
    const std::lock_guard<std::mutex> lock(readMutex);
    for (size_t left = kReadBytes; left > 0 && state_ != State::kClosed;) {
      const size_t got = receive(buffer_.data(), buffer_.size());
      if (got == 0) break;
      left -= std::min(left, got);
    }
    if (state_ != State::kClosed) return false;
  }
  // The other side has gone and reads nothing any more.
  close();
  return true;
}

void Link::close() {
  const std::scoped_lock lock(readMutex, writeMutex_);
  outgoing_.clear();
  waiting_.store(false);
  finished_ = true;
  state_ = State::kClosed;
  closed_.store(true);
  shutdown(socket_.number(), SHUT_RDWR);
}

}  // namespace shardspeed
