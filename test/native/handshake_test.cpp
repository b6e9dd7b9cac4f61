#include "comm/handshake.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "comm/frame.h"
#include "group_ranks.h"
#include "random.h"
#include "test_threads.h"

namespace shardspeed::test {

using Bytes = Group::Bytes;

static Descriptor strangerTo(const ControlListener& listener) {
  ConnectAttempt attempt = connectTo("127.0.0.1", listener.port, Patience(20000, nullptr));
  REQUIRE(attempt.socket.open());
  return std::move(attempt.socket);
}

static Membership memberOf(int rank, int size) {
  return {rank, size, kKey};
}

static void sendBytes(const Descriptor& socket, const Bytes& bytes) {
  sendSmall(socket.number(), bytes.data(), bytes.size());
}

static bool isClosed(const Descriptor& socket) {
  uint8_t byte;
  Read outcome;
  do outcome = readExactly(socket.number(), &byte, 1, Patience(20000, nullptr));
  while (outcome == Read::kAll);
  return outcome == Read::kClosed;
}

// The leader of a group of two waits in a thread while `strangers` tries to disturb; then rank 1 comes, and all is
// well.
static void runBesides(const std::function<void(const ControlListener&)>& strangers) {
  const ControlListener listener = openControlListener("127.0.0.1");
  TestThreads leader;
  leader.start([&] {
    CHECK_EQ(outcomeOf([&] {
               const auto group = makeProcessGroup(rankOptions(0, 2, listener));
               CHECK(group->exchange({1})[1] == Bytes{2});
               group->end();
             }),
             "done");
  });
  try {
    strangers(listener);
  } catch (const CutShort&) {
  }
  CHECK_EQ(outcomeOf([&] {
             const auto group = makeProcessGroup(rankOptions(1, 2, listener));
             CHECK(group->exchange({2})[0] == Bytes{1});
             group->receive();
           }),
           "ended");
  leader.join();
}

TEST(handshake, strangers_are_dropped_and_do_not_end_the_wait) {
  const Watchdog watchdog(120);
  runBesides([](const ControlListener& listener) {
    // Those that say nothing stay until the end, and hold nobody up; there are more of them than are kept.
    std::vector<Descriptor> silent;
    for (int i = 0; i < 150; ++i) silent.push_back(strangerTo(listener));
    CHECK(isClosed(silent[0]));
    // Something that speaks, but not our language: dropped at once.
    const Descriptor other = strangerTo(listener);
    sendBytes(other, {'G', 'E', 'T', ' ', '/'});
    CHECK(isClosed(other));
    // Half of a greeting, then nothing, or the end.
    const Nonce nonce{9};
    const auto hello = helloBytes(1, 2, nonce);
    const Descriptor half = strangerTo(listener), ended = strangerTo(listener);
    sendBytes(half, Bytes(hello.begin(), hello.begin() + 20));
    sendBytes(ended, Bytes(hello.begin(), hello.begin() + 20));
    shutdown(ended.number(), SHUT_WR);
    CHECK(isClosed(ended));
    CHECK(isClosed(half));
    // A wrong proof.
    const Descriptor wrong = strangerTo(listener);
    sendBytes(wrong, Bytes(hello.begin(), hello.end()));
    uint8_t answer[64];
    CHECK(readExactly(wrong.number(), answer, 64, Patience(20000, nullptr)) == Read::kAll);
    sendBytes(wrong, Bytes(32, 0));
    CHECK(isClosed(wrong));
    // The leader's own proof, sent back to it.
    const Descriptor mirror = strangerTo(listener);
    sendBytes(mirror, Bytes(hello.begin(), hello.end()));
    CHECK(readExactly(mirror.number(), answer, 64, Patience(20000, nullptr)) == Read::kAll);
    sendBytes(mirror, Bytes(answer + 32, answer + 64));
    CHECK(isClosed(mirror));
  });
}

// What was said on one connection, by whom it should, is worth nothing on another one.
TEST(handshake, nothing_can_be_said_twice) {
  const Watchdog watchdog(120);
  const Patience patience(60000, nullptr);
  const Nonce nonce{5};
  const auto hello = helloBytes(1, 2, nonce);
  std::array<uint8_t, 64> answers[2];
  runBesides([&](const ControlListener& listener) {
    Descriptor sockets[2];
    for (size_t i = 0; i < 2; ++i) {
      sockets[i] = strangerTo(listener);
      sendBytes(sockets[i], Bytes(hello.begin(), hello.end()));
      CHECK(readExactly(sockets[i].number(), answers[i].data(), 64, patience) == Read::kAll);
    }
    Nonce leaderNonce;
    std::copy_n(answers[0].begin(), leaderNonce.size(), leaderNonce.begin());
    const Digest digest = proof(memberOf(1, 2), false, leaderNonce, nonce);
    sendBytes(sockets[1], Bytes(digest.begin(), digest.end()));
    CHECK(isClosed(sockets[1]));
  });
  CHECK(answers[0] != answers[1]);
  // And so for rank 0's part: this rank draws a nonce of its own.
  const ControlListener listener = openControlListener("127.0.0.1");
  TestThreads impostor;
  impostor.start([&] {
    awaitReady(listener.descriptor, POLLIN, patience);
    const Descriptor socket = acceptConnection(listener.descriptor);
    sendBytes(socket, Bytes(answers[0].begin(), answers[0].end()));
    isClosed(socket);
  });
  CHECK_THROWS("ERR_COMM", "does not know the key of this group",
               joinLeader("127.0.0.1", listener.port, memberOf(1, 2), patience));
  impostor.join();
  closeControlListener(listener.descriptor);
}

TEST(handshake, random_bytes_never_get_in) {
  const Watchdog watchdog(120);
  runBesides([](const ControlListener& listener) {
    Random random(17);
    for (int round = 0; round < (kReduced ? 50 : 300); ++round) {
      const Descriptor stranger = strangerTo(listener);
      const auto hello = helloBytes(1, 2, Nonce{});
      Bytes bytes(hello.begin(), hello.end());
      bytes.resize(static_cast<size_t>(random.between(0, 200)));
      for (size_t changed = random.chance(0.7) ? 0 : bytes.size(); changed < bytes.size(); ++changed)
        bytes[changed] = static_cast<uint8_t>(random.bits());
      sendBytes(stranger, bytes);
      if (random.chance(0.5)) shutdown(stranger.number(), SHUT_WR);
    }
  });
}

// Those who know the key, and still cannot take part, are told why; the leader goes on waiting.
TEST(handshake, ranks_that_do_not_fit) {
  const Watchdog watchdog(120);
  const ControlListener listener = openControlListener("127.0.0.1");
  const Patience patience(60000, nullptr);
  TestThreads leader;
  leader.start([&] { CHECK_EQ(outcomeOf([&] { makeProcessGroup(rankOptions(0, 3, listener)); }), "done"); });
  const auto join = [&](int rank, int size) { joinLeader("127.0.0.1", listener.port, memberOf(rank, size), patience); };
  CHECK_THROWS("ERR_COMM", "rank 0 refused this rank: rank 0 has a group of 3 ranks, this one said 2", join(1, 2));
  CHECK_THROWS("ERR_COMM", "a rank of 1 to 2 was expected, this one said 3", join(3, 3));
  CHECK_THROWS("ERR_COMM", "a rank of 1 to 2 was expected, this one said 0", join(0, 3));
  CHECK_THROWS("ERR_COMM", "a rank of 1 to 2 was expected, this one said -5", join(-5, 3));
  // Of two that say the same, the one that comes second is refused.
  std::atomic<int> accepted{0}, refused{0};
  TestThreads twins;
  for (int i = 0; i < 2; ++i)
    twins.start([&] {
      const std::string outcome = outcomeOf([&] { join(1, 3); });
      if (outcome == "done") ++accepted;
      if (outcome.find("another process is rank 1 of this group already") != std::string::npos) ++refused;
    });
  while (refused == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  join(2, 3);
  twins.join();
  CHECK_EQ(accepted.load(), 1);
  CHECK_EQ(refused.load(), 1);
  leader.join();
}

TEST(handshake, other_keys) {
  const Watchdog watchdog(120);
  runBesides([](const ControlListener& listener) {
    ProcessGroupOptions options = rankOptions(1, 2, listener);
    options.key[31] ^= 1;
    CHECK_THROWS("ERR_COMM", "does not know the key of this group", makeProcessGroup(options));
  });
}

// Something that listens where rank 0 should.
TEST(handshake, a_leader_that_is_none) {
  const Watchdog watchdog(120);
  const ControlListener listener = openControlListener("127.0.0.1");
  const auto meet = [&](const Bytes& said, int64_t limitMs) {
    std::atomic<bool> done{false};
    TestThreads impostor;
    impostor.start([&] {
      std::vector<Descriptor> accepted;
      while (!done) {
        pollfd wanted{listener.descriptor, POLLIN, 0};
        if (pollOnce(&wanted, 1, 20) == 0) continue;
        accepted.push_back(acceptConnection(listener.descriptor));
        sendBytes(accepted.back(), said);
        if (said.empty()) accepted.pop_back();
      }
    });
    const std::string outcome =
        outcomeOf([&] { joinLeader("127.0.0.1", listener.port, memberOf(1, 2), Patience(limitMs, nullptr)); });
    done = true;
    impostor.join();
    return outcome;
  };
  CHECK(meet(Bytes(64, 'x'), 60000).find("does not know the key of this group") != std::string::npos);
  CHECK_EQ(meet(Bytes(63, 'x'), 200),
           "ERR_COMM: rank 1 is connected to rank 0, but the group was not complete within 0.2 s");
  CHECK(meet({}, 500).find("within 0.5 s") != std::string::npos);
  closeControlListener(listener.descriptor);
  const std::string gone =
      outcomeOf([&] { joinLeader("127.0.0.1", listener.port, memberOf(1, 2), Patience(60000, nullptr)); });
  CHECK(gone.find("where nobody listens any more") != std::string::npos);
}

TEST(handshake, ranks_that_do_not_come) {
  const Watchdog watchdog(120);
  const ControlListener listener = openControlListener("127.0.0.1");
  RankSettings settings;
  settings.connectLimitMs = 700;
  std::vector<std::string> outcomes(5);
  TestThreads threads;
  for (const int rank : {0, 2, 4})
    threads.start([&, rank] {
      RankSettings own;
      if (rank == 0) own = settings;
      outcomes[static_cast<size_t>(rank)] = outcomeOf([&] { makeProcessGroup(rankOptions(rank, 5, listener, own)); });
    });
  threads.join();
  const std::string expected =
      "ERR_COMM: rank 0 waited 0.7 s for the 4 other ranks, and these did not connect: 1, 3. See what they printed, "
      "and "
      "whether a firewall lets them through";
  for (const size_t rank : {0, 2, 4}) CHECK_EQ(outcomes[rank], expected);
  CHECK_THROWS("ERR_COMM", "has no open listener", takeControlListener(listener.descriptor));
}

TEST(handshake, a_rank_that_is_gone_before_all_are_there) {
  const Watchdog watchdog(120);
  const ControlListener listener = openControlListener("127.0.0.1");
  std::vector<std::string> outcomes(2);
  TestThreads threads;
  for (const int rank : {0, 1})
    threads.start([&, rank] {
      outcomes[static_cast<size_t>(rank)] = outcomeOf([&] { makeProcessGroup(rankOptions(rank, 4, listener)); });
    });
  {
    // Proves what it has to, and closes.
    const auto hello = helloBytes(2, 4, Nonce{});
    const Descriptor early = strangerTo(listener);
    sendBytes(early, Bytes(hello.begin(), hello.end()));
    uint8_t answer[64];
    CHECK(readExactly(early.number(), answer, 64, Patience(20000, nullptr)) == Read::kAll);
    Nonce leaderNonce;
    std::copy_n(answer, leaderNonce.size(), leaderNonce.begin());
    const Digest digest = proof(memberOf(2, 4), false, leaderNonce, Nonce{});
    sendBytes(early, Bytes(digest.begin(), digest.end()));
    uint8_t accepted[8];
    CHECK(readExactly(early.number(), accepted, 8, Patience(20000, nullptr)) == Read::kAll);
    // Rank 1 may still be on its way, but not for long.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  threads.join();
  for (const std::string& outcome : outcomes)
    CHECK_EQ(outcome, "ERR_COMM: rank 2 is gone: its connection closed while the other ranks were waited for");
}

TEST(handshake, connecting_can_be_stopped) {
  const Watchdog watchdog(120);
  const int descriptors = openDescriptors();
  const ControlListener listener = openControlListener("127.0.0.1");
  std::atomic<bool> stop{false};
  std::vector<std::string> outcomes(2);
  TestThreads threads;
  for (const int rank : {0, 1})
    threads.start([&, rank] {
      ProcessGroupOptions options = rankOptions(rank, 3, listener);
      if (rank == 0) options.stop = &stop;
      outcomes[static_cast<size_t>(rank)] = outcomeOf([&] { makeProcessGroup(options); });
    });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  stop = true;
  threads.join();
  CHECK_EQ(outcomes[0], "ERR_ABORTED: connecting to the other ranks was stopped");
  // The other one was there already, or found nobody.
  CHECK(outcomes[1] == "ERR_COMM: rank 0: connecting to the other ranks was stopped" ||
        outcomes[1].find("where nobody listens any more") != std::string::npos);
  // The others as well, whatever they wait for.
  const ControlListener silent = openControlListener("127.0.0.1");
  ProcessGroupOptions options = rankOptions(1, 3, silent);
  options.stop = &stop;
  CHECK_THROWS("ERR_ABORTED", "stopped", makeProcessGroup(options));
  closeControlListener(silent.descriptor);
  CHECK_EQ(openDescriptors(), descriptors);
}

// Memory that this process has written to, in bytes.
static int64_t residentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t mapped = 0, pages = 0;
  file >> mapped >> pages;
  return pages * 4096;
}

// What an authenticated peer says after that: anything.
static Bytes randomFrames(Random& random) {
  Bytes bytes;
  for (int64_t frames = random.between(0, 12); frames > 0; --frames) {
    const auto kind = static_cast<FrameKind>(random.chance(0.9) ? random.between(1, 8) : random.below(256));
    const int64_t claimed = random.chance(0.7) ? random.below(300) : random.below(int64_t{1} << 32);
    const bool empty = kind == FrameKind::kHeartbeat && random.chance(0.9);
    const auto rank = static_cast<uint16_t>(random.chance(0.8) ? random.below(3) : random.below(65536));
    const HeaderBytes header = encodeHeader({kind, rank, static_cast<uint32_t>(empty ? 0 : claimed)});
    bytes.insert(bytes.end(), header.begin(), header.end());
    for (int64_t i = empty ? 0 : random.chance(0.8) ? std::min<int64_t>(claimed, 300) : random.below(300); i > 0; --i)
      bytes.push_back(static_cast<uint8_t>(random.bits()));
  }
  return bytes;
}

// Whatever a peer sends that knows the key, a rank neither crashes nor waits for ever nor takes memory that was only
// claimed; it says what is wrong.
TEST(handshake, frames_of_a_peer_gone_mad) {
  const Watchdog watchdog(400);
  Random random(23);
  for (int round = 0; round < (kReduced ? 60 : 400); ++round) {
    const Note note("round", round);
    const bool leads = round % 2 == 0;  // the rank that is tested
    const ControlListener listener = openControlListener("127.0.0.1");
    const Bytes bytes = randomFrames(random);
    TestThreads peer;
    peer.start([&] {
      const Patience patience(60000, nullptr);
      std::vector<Descriptor> sockets;
      if (leads) {
        sockets.push_back(joinLeader("127.0.0.1", listener.port, memberOf(1, 2), patience));
      } else {
        sockets = admitRanks(takeControlListener(listener.descriptor), memberOf(0, 2), patience);
        std::swap(sockets[0], sockets[1]);
        const HeaderBytes ready = encodeHeader({FrameKind::kReady, 0, 0});
        sendBytes(sockets[0], Bytes(ready.begin(), ready.end()));
      }
      sendBytes(sockets[0], bytes);
      shutdown(sockets[0].number(), SHUT_WR);
      isClosed(sockets[0]);
    });
    const int64_t before = residentBytes();
    const std::string outcome = outcomeOf([&] {
      const auto group = makeProcessGroup(rankOptions(leads ? 0 : 1, 2, listener));
      for (;;) {
        if (round % 3 == 0)
          group->shareMemory(5000);
        else if (round % 3 == 1 || leads)
          group->exchange({1});
        else
          group->receive();
        if (!kReduced) CHECK(residentBytes() - before < (100 << 20));
      }
    });
    CHECK(outcome == "ended" || outcome.find("ERR_COMM: ") == 0);
    peer.join();
  }
}

// 256 MB are claimed, and nothing comes.
TEST(handshake, claims_take_no_memory) {
  const Watchdog watchdog(120);
  if (kReduced) SKIP("sanitizers take memory of their own");
  const ControlListener listener = openControlListener("127.0.0.1");
  std::atomic<bool> done{false};
  TestThreads peer;
  peer.start([&] {
    const Descriptor socket = joinLeader("127.0.0.1", listener.port, memberOf(1, 2), Patience(60000, nullptr));
    const HeaderBytes header = encodeHeader({FrameKind::kExchange, 1, static_cast<uint32_t>(kMostMessageBytes)});
    Bytes bytes(header.begin(), header.end());
    bytes.resize(bytes.size() + 100);
    sendBytes(socket, bytes);
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  {
    const auto group = makeProcessGroup(rankOptions(0, 2, listener));
    const int64_t before = residentBytes();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    CHECK(residentBytes() - before < (64 << 20));
    CHECK(!group->over());
    done = true;
    // Or reset: the peer has not read the heartbeats.
    CHECK_EQ(outcomeOf([&] { group->exchange({}); }).substr(0, 47), "ERR_COMM: rank 1 is gone: its connection closed");
  }
  peer.join();
}

}  // namespace shardspeed::test
