#include "comm/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace shardspeed {

namespace {

constexpr int kSliceMs = 50;
constexpr int64_t kLongestMs = 1000ll * 3600 * 24 * 365;  // so that no limit overflows a clock
constexpr int64_t kConnectMs = 5000;                      // for one address, before the next is tried
constexpr int kBacklog = 1024;                            // connections that wait until the leader accepts them

struct Listeners {
  std::mutex mutex;
  std::set<int> open;
};

Listeners& listeners() {
  static auto& all = *new Listeners;  // never destroyed: a thread may still listen when the process exits
  return all;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& host, uint16_t port, int flags, std::string& reason) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0)
    reason = "the address of \"" + host +
             "\" cannot be found: " + (status == EAI_SYSTEM ? systemText(errno) : gai_strerror(status));
  return Addresses(status == 0 ? found : nullptr, freeaddrinfo);
}

void sendAtOnce(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool listenAt(int socket, const addrinfo& address) {
  const int off = 0;
  // "::" stands for all addresses, those of IPv4 too.
  if (address.ai_family == AF_INET6) setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  return bind(socket, address.ai_addr, address.ai_addrlen) == 0 && listen(socket, kBacklog) == 0;
}

uint16_t portOf(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

// TCP lets a socket connect to itself where nobody listens on a port that the system then chooses as the socket's own.
bool connectedToItself(int socket) {
  sockaddr_storage here{}, there{};
  socklen_t hereLength = sizeof here, thereLength = sizeof there;
  return getsockname(socket, reinterpret_cast<sockaddr*>(&here), &hereLength) == 0 &&
         getpeername(socket, reinterpret_cast<sockaddr*>(&there), &thereLength) == 0 && hereLength == thereLength &&
         std::memcmp(&here, &there, hereLength) == 0;
}

// The error number of the attempt; 0 if it succeeded.
int connectSocket(int socket, const addrinfo& address, const Patience& patience) {
  const Patience attempt(kConnectMs, nullptr);
  if (connect(socket, address.ai_addr, address.ai_addrlen) != 0) {
    // After a signal it also goes on in the background.
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    for (;;) {
      patience.check();
      if (patience.expired() || attempt.expired()) return ETIMEDOUT;
      pollfd wanted{socket, POLLOUT, 0};
      if (pollOnce(&wanted, 1, std::min(patience.sliceMs(), attempt.sliceMs())) > 0) break;
    }
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    if (error != 0) return error;
  }
  return connectedToItself(socket) ? ECONNREFUSED : 0;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    close();
    number_ = other.release();
  }
  return *this;
}

void Descriptor::close() {
  // Not repeated after EINTR: on Linux the number is free then, and may belong to another thread already.
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

int Descriptor::release() {
  return std::exchange(number_, -1);
}

Patience::Patience(int64_t limitMs, const std::atomic<bool>* stop)
    : deadline_(Clock::now() + std::chrono::milliseconds(std::min(limitMs, kLongestMs))),
      stop_(stop),
      limit_(showSeconds(std::chrono::milliseconds(std::min(limitMs, kLongestMs)))) {}

void Patience::check() const {
  if (stop_ && stop_->load(std::memory_order_relaxed))
    throw Error("ERR_ABORTED", "connecting to the other ranks was stopped");
}

int Patience::sliceMs() const {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, kSliceMs));
}

std::string showSeconds(Clock::duration time) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f s", std::chrono::duration<double>(time).count());
  return text;
}

std::string systemText(int error) {
  return std::generic_category().message(error);
}

int pollOnce(pollfd* descriptors, size_t count, int timeoutMs) {
  const int ready = poll(descriptors, count, timeoutMs);
  if (ready >= 0) return ready;
  for (size_t i = 0; i < count; ++i) descriptors[i].revents = 0;
  if (errno == EINTR) return 0;
  throw Error("ERR_COMM", "waiting for the connections of other ranks failed: " + systemText(errno));
}

bool awaitReady(int descriptor, short events, const Patience& patience) {
  for (;;) {
    patience.check();
    pollfd wanted{descriptor, events, 0};
    if (pollOnce(&wanted, 1, patience.sliceMs()) > 0) return true;
    if (patience.expired()) return false;
  }
}

ControlListener openControlListener(const std::string& host) {
  std::string reason;
  const Addresses addresses = resolve(host, 0, AI_PASSIVE, reason);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    Descriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const uint16_t port = socket.open() && listenAt(socket.number(), *address) ? portOf(socket.number()) : 0;
    if (port == 0) {
      reason = systemText(errno);
      continue;
    }
    const std::lock_guard<std::mutex> lock(listeners().mutex);
    listeners().open.insert(socket.number());
    return {socket.release(), port};
  }
  throw Error("ERR_COMM", "no port for the other ranks could be opened at \"" + host + "\": " + reason +
                              ". Expected an address of this machine, 0.0.0.0 or ::");
}

void closeControlListener(int descriptor) {
  const std::lock_guard<std::mutex> lock(listeners().mutex);
  if (listeners().open.erase(descriptor) > 0) Descriptor(descriptor).close();
}

Descriptor takeControlListener(int descriptor) {
  const std::lock_guard<std::mutex> lock(listeners().mutex);
  if (listeners().open.erase(descriptor) == 0)
    throw Error("ERR_COMM", "rank 0 has no open listener with the descriptor " + std::to_string(descriptor) +
                                ": it was closed, or taken by another group");
  return Descriptor(descriptor);
}

Descriptor acceptConnection(int listener) {
  Descriptor socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.open()) sendAtOnce(socket.number());
  return socket;
}

ConnectAttempt connectTo(const std::string& host, uint16_t port, const Patience& patience) {
  ConnectAttempt attempt{Descriptor(), false, ""};
  const Addresses addresses = resolve(host, port, 0, attempt.reason);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    Descriptor socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int error = socket.open() ? connectSocket(socket.number(), *address, patience) : errno;
    if (error == 0) {
      sendAtOnce(socket.number());
      return {std::move(socket), false, ""};
    }
    attempt.refused = error == ECONNREFUSED;
    attempt.reason = systemText(error);
  }
  return attempt;
}

Read readExactly(int socket, uint8_t* bytes, size_t count, const Patience& patience) {
  while (count > 0) {
    if (!awaitReady(socket, POLLIN, patience)) return Read::kLate;
    const ssize_t got = recv(socket, bytes, count, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) return Read::kClosed;
    bytes += got, count -= static_cast<size_t>(got);
  }
  return Read::kAll;
}

bool sendSmall(int socket, const uint8_t* bytes, size_t count) {
  ssize_t sent;
  do sent = send(socket, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(count);
}

WakeUp::WakeUp() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_.open())
    throw Error("ERR_COMM",
                "the system gives no descriptor to wake the thread of the connections: " + systemText(errno));
}

void WakeUp::ring() {
  const uint64_t one = 1;
  while (write(event_.number(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void WakeUp::silence() {
  uint64_t count;
  while (read(event_.number(), &count, sizeof count) < 0 && errno == EINTR) {
  }
}

}  // namespace shardspeed
