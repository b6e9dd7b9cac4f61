#include "comm/handshake.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/frame.h"

namespace shardspeed {

namespace {

constexpr std::array<uint8_t, 8> kMagic{'s', 'h', 's', 'p', 'c', 'o', 'm', '1'};
constexpr size_t kHelloBytes = 48, kAnswerBytes = 64;
constexpr size_t kMostStrangers = 64;  // connections that have not proved the key yet; one more closes the oldest
constexpr auto kStrangerLimit = std::chrono::seconds(5);
constexpr auto kRetry = std::chrono::milliseconds(50);
constexpr auto kRefusedLimit = std::chrono::seconds(1);

std::string rankText(int rank) {
  return "rank " + std::to_string(rank);
}

bool sendFrame(int socket, FrameKind kind, const std::string& text = "") {
  const std::string line = oneLine(text);
  const HeaderBytes header = encodeHeader({kind, 0, static_cast<uint32_t>(line.size())});
  std::vector<uint8_t> bytes(header.begin(), header.end());
  bytes.insert(bytes.end(), line.begin(), line.end());
  return sendSmall(socket, bytes.data(), bytes.size());
}

// Rank 0's side: connections that have not proved the key yet (strangers), and admitted ranks that wait for the others.
class Admission {
 public:
  Admission(Descriptor listener, const Membership& self, const Patience& patience)
      : listener_(std::move(listener)), self_(self), patience_(patience), ranks_(static_cast<size_t>(self.size)) {}

  std::vector<Descriptor> run() {
    try {
      while (!complete()) round();
    } catch (const Error& error) {
      const std::string reason = (error.code() == "ERR_COMM" ? "" : "rank 0: ") + std::string(error.what());
      for (const Descriptor& rank : ranks_)
        if (rank.open()) sendFrame(rank.number(), FrameKind::kFail, reason);
      throw;
    }
    return std::move(ranks_);
  }

 private:
  struct Stranger {
    Descriptor socket;
    Clock::time_point limit;
    std::array<uint8_t, kHelloBytes> bytes{};
    size_t filled = 0;
    bool answered = false;
    Membership claimed{};
    Nonce nonce{}, leaderNonce{};
  };

  bool complete() const {
    return std::all_of(ranks_.begin() + 1, ranks_.end(), [](const Descriptor& rank) { return rank.open(); });
  }

  void round() {
    patience_.check();
    if (patience_.expired()) throw Error("ERR_COMM", missingText());
    // Strangers first: those that acceptAll() adds belong to the next round.
    std::vector<pollfd> wanted;
    for (const Stranger& stranger : strangers_) wanted.push_back({stranger.socket.number(), POLLIN, 0});
    wanted.push_back({listener_.number(), POLLIN, 0});
    for (const Descriptor& rank : ranks_) wanted.push_back({rank.number(), POLLIN, 0});  // poll() skips -1
    pollOnce(wanted.data(), wanted.size(), patience_.sliceMs());
    const size_t listener = strangers_.size();
    for (size_t rank = 1; rank < ranks_.size(); ++rank)
      if (wanted[listener + 1 + rank].revents != 0)
        throw Error("ERR_COMM", rankText(static_cast<int>(rank)) +
                                    " is gone: its connection closed while the other ranks were waited for");
    const auto now = Clock::now();
    for (size_t i = 0; i < listener; ++i)
      if ((wanted[i].revents != 0 && !hear(strangers_[i])) || strangers_[i].limit <= now) strangers_[i].socket.close();
    std::erase_if(strangers_, [](const Stranger& stranger) { return !stranger.socket.open(); });
    if (wanted[listener].revents != 0) acceptAll();
  }

  void acceptAll() {
    for (size_t i = 0; i < kMostStrangers; ++i) {
      Descriptor socket = acceptConnection(listener_.number());
      if (!socket.open()) {
        if (errno == ECONNABORTED || errno == EINTR) continue;
        // No descriptors or no memory: the connection stays in the queue, and poll() would return at once.
        if (errno != EAGAIN) std::this_thread::sleep_for(kRetry);
        return;
      }
      if (strangers_.size() == kMostStrangers) strangers_.pop_front();
      strangers_.push_back({std::move(socket), Clock::now() + kStrangerLimit});
    }
  }

  // Reads from a stranger. False if the connection is of no more use, or has become a rank's.
  bool hear(Stranger& stranger) {
    const size_t expected = stranger.answered ? Digest().size() : kHelloBytes;
    const ssize_t got = recv(stranger.socket.number(), stranger.bytes.data() + stranger.filled,
                             expected - stranger.filled, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (got <= 0) return false;
    stranger.filled += static_cast<size_t>(got);
    // Do not wait for more bytes if these cannot begin a hello.
    const size_t compared = std::min(stranger.filled, kMagic.size());
    if (!stranger.answered && std::memcmp(stranger.bytes.data(), kMagic.data(), compared) != 0) return false;
    if (stranger.filled < expected) return true;
    stranger.filled = 0;
    if (!stranger.answered) return answer(stranger);
    admit(stranger);
    return false;
  }

  bool answer(Stranger& stranger) {
    const uint8_t* bytes = stranger.bytes.data() + kMagic.size();
    stranger.claimed = {static_cast<int>(getNumber(bytes, 4)), static_cast<int>(getNumber(bytes + 4, 4)), self_.key};
    std::copy_n(bytes + 8, stranger.nonce.size(), stranger.nonce.begin());
    fillRandom(stranger.leaderNonce.data(), stranger.leaderNonce.size());
    const Digest mine = proof(stranger.claimed, true, stranger.leaderNonce, stranger.nonce);
    std::array<uint8_t, kAnswerBytes> answer;
    std::copy(stranger.leaderNonce.begin(), stranger.leaderNonce.end(), answer.begin());
    std::copy(mine.begin(), mine.end(), answer.begin() + stranger.leaderNonce.size());
    stranger.answered = true;
    return sendSmall(stranger.socket.number(), answer.data(), answer.size());
  }

  void admit(Stranger& stranger) {
    Digest found;
    std::copy_n(stranger.bytes.begin(), found.size(), found.begin());
    if (!sameDigest(found, proof(stranger.claimed, false, stranger.leaderNonce, stranger.nonce))) return;
    const auto [rank, size, key] = stranger.claimed;
    const int socket = stranger.socket.number();
    if (size != self_.size) {
      sendFrame(
          socket, FrameKind::kRefused,
          "rank 0 has a group of " + std::to_string(self_.size) + " ranks, this one said " + std::to_string(size));
    } else if (rank < 1 || rank >= size) {
      sendFrame(socket, FrameKind::kRefused,
                "a rank of 1 to " + std::to_string(size - 1) + " was expected, this one said " + std::to_string(rank));
    } else if (ranks_[static_cast<size_t>(rank)].open()) {
      sendFrame(socket, FrameKind::kRefused, "another process is " + rankText(rank) + " of this group already");
    } else if (sendFrame(socket, FrameKind::kAccepted)) {
      ranks_[static_cast<size_t>(rank)] = std::move(stranger.socket);
    }
  }

  std::string missingText() const {
    std::string missing;
    for (size_t rank = 1; rank < ranks_.size(); ++rank)
      if (!ranks_[rank].open()) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    return "rank 0 waited " + patience_.limit() + " for the " + std::to_string(self_.size - 1) +
           " other ranks, and these did not connect: " + missing +
           ". See what they printed, and whether a firewall lets them through";
  }

  Descriptor listener_;
  const Membership self_;
  const Patience& patience_;
  std::vector<Descriptor> ranks_;
  std::deque<Stranger> strangers_;
};

// The other ranks' side of one connection.
class Joining {
 public:
  Joining(int socket, const Membership& self, const Patience& patience)
      : socket_(socket), self_(self), patience_(patience) {}

  // False if the connection closed before rank 0 admitted this rank: another attempt may work.
  bool prove() {
    fillRandom(nonce_.data(), nonce_.size());
    const auto hello = helloBytes(self_.rank, self_.size, nonce_);
    std::array<uint8_t, kAnswerBytes> answer;
    if (!sendSmall(socket_, hello.data(), hello.size()) || !read(answer.data(), answer.size())) return false;
    Nonce leaderNonce;
    Digest found;
    std::copy_n(answer.begin(), leaderNonce.size(), leaderNonce.begin());
    std::copy_n(answer.begin() + leaderNonce.size(), found.size(), found.begin());
    if (!sameDigest(found, proof(self_, true, leaderNonce, nonce_)))
      throw Error("ERR_COMM",
                  "what answers at the address of rank 0 does not know the key of this group: another "
                  "program listens there, or rank 0 is of another run");
    const Digest mine = proof(self_, false, leaderNonce, nonce_);
    if (!sendSmall(socket_, mine.data(), mine.size())) return false;
    const auto reply = readFrame();
    if (!reply) return false;
    if (reply->first == FrameKind::kRefused) throw Error("ERR_COMM", "rank 0 refused this rank: " + reply->second);
    expect(*reply, FrameKind::kAccepted);
    return true;
  }

  void awaitOthers() {
    const auto reply = readFrame();
    if (!reply) throw Error("ERR_COMM", "rank 0 is gone: its connection closed while the other ranks were waited for");
    if (reply->first == FrameKind::kFail) throw Error("ERR_COMM", reply->second);
    expect(*reply, FrameKind::kReady);
  }

 private:
  using Reply = std::pair<FrameKind, std::string>;

  bool read(uint8_t* bytes, size_t count) {
    const Read outcome = readExactly(socket_, bytes, count, patience_);
    if (outcome == Read::kLate)
      throw Error("ERR_COMM", rankText(self_.rank) + " is connected to rank 0, but the group was not complete within " +
                                  patience_.limit());
    return outcome == Read::kAll;
  }

  // Nothing if the connection has closed.
  std::optional<Reply> readFrame() {
    HeaderBytes bytes;
    if (!read(bytes.data(), bytes.size())) return std::nullopt;
    const auto header = decodeHeader(bytes);
    std::string text;
    if (header && (header->kind == FrameKind::kRefused || header->kind == FrameKind::kFail)) {
      text.resize(header->bytes);
      if (!read(reinterpret_cast<uint8_t*>(text.data()), text.size())) return std::nullopt;
    }
    return Reply{header ? header->kind : FrameKind::kHeartbeat, oneLine(text)};
  }

  static void expect(const Reply& reply, FrameKind kind) {
    if (reply.first != kind)
      throw Error("ERR_COMM", "rank 0 sent something else than a welcome: it is of another version");
  }

  const int socket_;
  const Membership& self_;
  const Patience& patience_;
  Nonce nonce_{};
};

}  // namespace

std::array<uint8_t, 48> helloBytes(int rank, int size, const Nonce& nonce) {
  std::vector<uint8_t> bytes(kMagic.begin(), kMagic.end());
  putNumber(bytes, static_cast<uint32_t>(rank), 4);
  putNumber(bytes, static_cast<uint32_t>(size), 4);
  bytes.insert(bytes.end(), nonce.begin(), nonce.end());
  std::array<uint8_t, kHelloBytes> hello;
  std::copy_n(bytes.begin(), hello.size(), hello.begin());
  return hello;
}

Digest proof(const Membership& of, bool leader, const Nonce& leaderNonce, const Nonce& nonce) {
  // The role is part of it, so that nobody can send a side's own proof back to it as the other side's (reflection).
  const std::string role = leader ? "shardspeed rank 0" : "shardspeed other ";
  std::vector<uint8_t> bytes;
  bytes.reserve(128);
  bytes.insert(bytes.end(), role.begin(), role.end());
  bytes.insert(bytes.end(), kMagic.begin(), kMagic.end());
  putNumber(bytes, static_cast<uint32_t>(of.rank), 4);
  putNumber(bytes, static_cast<uint32_t>(of.size), 4);
  bytes.insert(bytes.end(), leaderNonce.begin(), leaderNonce.end());
  bytes.insert(bytes.end(), nonce.begin(), nonce.end());
  return hmacSha256(of.key.data(), of.key.size(), bytes.data(), bytes.size());
}

std::vector<Descriptor> admitRanks(Descriptor listener, const Membership& self, const Patience& patience) {
  return Admission(std::move(listener), self, patience).run();
}

Descriptor joinLeader(const std::string& host, uint16_t port, const Membership& self, const Patience& patience) {
  const bool numeric6 = host.find(':') != std::string::npos;
  const std::string place = (numeric6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  auto notRefused = Clock::now();  // the last time that a connection was not refused
  for (;;) {
    ConnectAttempt attempt = connectTo(host, port, patience);
    if (attempt.socket.open()) {
      Joining joining(attempt.socket.number(), self, patience);
      if (joining.prove()) {
        joining.awaitOthers();
        return std::move(attempt.socket);
      }
      attempt.reason = "the connection closed before rank 0 had said anything";
    }
    patience.check();
    std::this_thread::sleep_for(kRetry);
    // Rank 0 listens before the others learn its address, so if the port refuses for a while, rank 0 has ended.
    if (!attempt.refused) notRefused = Clock::now();
    const bool gone = Clock::now() - notRefused >= kRefusedLimit;
    if (gone || patience.expired())
      throw Error("ERR_COMM", rankText(self.rank) + " could not connect to rank 0 at " + place +
                                  (gone ? ", where nobody listens any more: " : " within " + patience.limit() + ": ") +
                                  attempt.reason);
  }
}

}  // namespace shardspeed
