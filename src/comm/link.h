#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/frame.h"
#include "comm/socket.h"

namespace shardspeed {

// A connection between rank 0 and another rank. Writing never blocks: bytes that the other side does not take now are
// queued, and flush() sends them. Any thread may write. One thread at a time may read; it holds readMutex until it has
// handed on the frames, so that they keep their order.
class Link {
 public:
  using Payload = std::shared_ptr<const std::vector<uint8_t>>;
  enum class State { kOpen, kClosed, kBroken };

  // peer: the rank on the other side.
  Link(Descriptor socket, int peer);

  int peer() const { return peer_; }
  // For poll(); -1 after close().
  int descriptor() const { return closed_.load() ? -1 : socket_.number(); }

  // False if too many frames are queued already; this one is not queued then. Writing to a broken connection is no
  // error: the thread that reads learns the reason.
  bool write(FrameKind kind, Payload payload = nullptr, int rank = 0);
  // The last frame. An urgent one replaces all queued frames that have not been begun.
  void writeLast(FrameKind kind, Payload payload, bool urgent);
  // Sends as much of the queue as the other side takes now.
  void flush();
  // Whether the queue holds something.
  bool waiting() const { return waiting_.load(std::memory_order_acquire); }

  // Adds the frames that have come to `frames`: up to some megabytes of them, then it returns kOpen although there may
  // be more. kClosed and kBroken come after the last frame; failure() says what is wrong then.
  State read(std::vector<Frame>& frames);
  const std::string& failure() const { return failure_; }
  // The time when the last bytes came, moved on by excuse().
  Clock::time_point lastHeard() const { return Clock::time_point(Clock::duration(lastHeard_.load())); }
  // So much time until now does not count as silence.
  void excuse(Clock::duration time, Clock::time_point now);

  // Shuts down the sending side when the queue is empty. Reads and drops bytes that still come: if they were left
  // unread, closing could make the other side lose bytes that it has not read. True when the connection is closed.
  bool drain();
  // The descriptor stays open until the object ends, since another thread may be in poll() with it.
  void close();

  std::mutex readMutex;

 private:
  struct Outgoing {
    HeaderBytes header;
    Payload payload;
    size_t done = 0;  // of header and payload
  };

  bool push(FrameKind kind, Payload payload, int rank);
  void flushLocked();
  // The bytes of one recv(); 0 if nothing is there now or nothing comes any more, which state_ tells apart.
  size_t receive(uint8_t* to, size_t room);
  bool consume(const uint8_t* bytes, size_t count, std::vector<Frame>& frames);
  void growPayload();

  const int peer_;
  Descriptor socket_;

  std::mutex writeMutex_;
  std::deque<Outgoing> outgoing_;
  size_t messageBytes_ = 0;  // of the messages in the queue
  bool finished_ = false;    // the last frame is written
  bool silent_ = false;      // the other side has been told so
  std::atomic<bool> waiting_{false};
  std::atomic<int> writeError_{0};
  std::atomic<bool> closed_{false};

  State state_ = State::kOpen;
  std::string failure_;
  std::vector<uint8_t> buffer_;
  HeaderBytes headerBytes_{};
  size_t headerFilled_ = 0;
  Frame frame_{};
  size_t payloadFilled_ = 0;
  std::atomic<Clock::rep> lastHeard_;
};

}  // namespace shardspeed
