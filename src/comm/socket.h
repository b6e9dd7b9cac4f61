#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shardspeed {

using Clock = std::chrono::steady_clock;

// A file descriptor that is closed with its owner. All that are made here are closed in children of this process too.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int number() const { return number_; }
  bool open() const { return number_ >= 0; }
  void close();
  int release();

 private:
  int number_ = -1;
};

// How long something may take, and the flag by which another thread ends it.
class Patience {
 public:
  Patience(int64_t limitMs, const std::atomic<bool>* stop);
  // Error("ERR_ABORTED") once the flag is set.
  void check() const;
  bool expired() const { return Clock::now() >= deadline_; }
  // For poll(): up to the deadline, but short enough to see the flag soon.
  int sliceMs() const;
  // "30.0 s"
  const std::string& limit() const { return limit_; }

 private:
  Clock::time_point deadline_;
  const std::atomic<bool>* stop_;
  std::string limit_;
};

// "8.0 s"
std::string showSeconds(Clock::duration time);
// What the system says of an error number.
std::string systemText(int error);
// poll(), with none ready where a signal came in between.
int pollOnce(pollfd* descriptors, size_t count, int timeoutMs);
// True as soon as the descriptor is ready for `events` (or broken), false when patience is at its end.
bool awaitReady(int descriptor, short events, const Patience& patience);

// The leader's listener, opened before the ranks know of each other. Owned by the number of its descriptor, so that it
// can be handed through JavaScript: until makeProcessGroup() takes it over or closeControlListener() closes it.
struct ControlListener {
  int descriptor;
  uint16_t port;
};
// On a port that the system chooses. host: a name or address of this machine, or 0.0.0.0 or :: for all its addresses.
// Throws Error("ERR_COMM").
ControlListener openControlListener(const std::string& host);
// Closes it; does nothing where it is not the number of a listener that is open, so that closing twice does no harm.
void closeControlListener(int descriptor);
// Error("ERR_COMM") where there is no such listener.
Descriptor takeControlListener(int descriptor);

// A connection that is being accepted or was made: never blocks, and sends small messages at once.
Descriptor acceptConnection(int listener);

struct ConnectAttempt {
  Descriptor socket;  // open where the attempt succeeded
  bool refused;       // nobody listens there
  std::string reason;
};
// One attempt for each address of the host. Throws Error("ERR_ABORTED") only.
ConnectAttempt connectTo(const std::string& host, uint16_t port, const Patience& patience);

enum class Read { kAll, kClosed, kLate };
// Reads as many bytes and never one more.
Read readExactly(int socket, uint8_t* bytes, size_t count, const Patience& patience);
// For what fits into the socket's buffer for sure: false where it did not go out.
bool sendSmall(int socket, const uint8_t* bytes, size_t count);

// Wakes a thread that sleeps in poll().
class WakeUp {
 public:
  WakeUp();
  int descriptor() const { return event_.number(); }
  void ring();
  void silence();

 private:
  Descriptor event_;
};

}  // namespace shardspeed
