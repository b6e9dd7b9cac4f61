#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace shardspeed {

using Clock = std::chrono::steady_clock;

// Owns a file descriptor. Descriptors made here are not inherited by child processes.
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

// A time limit, and the flag by which another thread cancels.
class Patience {
 public:
  Patience(int64_t limitMs, const std::atomic<bool>* stop);
  // Throws Error("ERR_ABORTED") if the flag is set.
  void check() const;
  bool expired() const { return Clock::now() >= deadline_; }
  // Timeout for poll(): up to the deadline, but short enough to see the flag soon.
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
// The system's text for an error number.
std::string systemText(int error);
// poll(); no descriptor is ready if a signal interrupted it.
int pollOnce(pollfd* descriptors, size_t count, int timeoutMs);
// True as soon as the descriptor is ready for `events` or broken, false when patience ends.
bool awaitReady(int descriptor, short events, const Patience& patience);

// The leader's listener, opened before the ranks know of each other. Its descriptor's number passes through
// JavaScript; makeProcessGroup() takes it over, or closeControlListener() closes it.
struct ControlListener {
  int descriptor;
  uint16_t port;
};
// On a port that the system chooses. host: a name or address of this machine, or 0.0.0.0 or :: for all its addresses.
// Throws Error("ERR_COMM").
ControlListener openControlListener(const std::string& host);
// Does nothing if the number is not an open listener's, so closing twice is harmless.
void closeControlListener(int descriptor);
// Throws Error("ERR_COMM") if there is no such listener.
Descriptor takeControlListener(int descriptor);

// The accepted connection never blocks, and sends small messages at once.
Descriptor acceptConnection(int listener);

struct ConnectAttempt {
  Descriptor socket;  // open if the attempt succeeded
  bool refused;       // nobody listens there
  std::string reason;
};
// One attempt for each address of the host. Throws Error("ERR_ABORTED") only.
ConnectAttempt connectTo(const std::string& host, uint16_t port, const Patience& patience);

enum class Read { kAll, kClosed, kLate };
// Reads exactly `count` bytes.
Read readExactly(int socket, uint8_t* bytes, size_t count, const Patience& patience);
// Sends bytes that are sure to fit into the socket's buffer. False if it failed.
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
