#include "comm/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "comm/link.h"
#include "group_ranks.h"
#include "random.h"
#include "test_threads.h"

namespace shardspeed::test {

// Two ends of a connection.
static std::array<Descriptor, 2> connectedPair() {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

static bool closedInChildren(int descriptor) {
  return (fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0;
}

TEST(socket, a_listener_is_owned_by_its_number) {
  const int before = openDescriptors();
  const ControlListener listener = openControlListener("127.0.0.1");
  CHECK(listener.port != 0);
  CHECK(closedInChildren(listener.descriptor));
  closeControlListener(listener.descriptor);
  closeControlListener(listener.descriptor);
  CHECK_THROWS("ERR_COMM", "has no open listener", takeControlListener(listener.descriptor));
  // A number that is none of a listener is left alone.
  Descriptor file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  closeControlListener(file.number());
  CHECK_THROWS("ERR_COMM", "has no open listener", takeControlListener(file.number()));
  CHECK(fcntl(file.number(), F_GETFD) >= 0);
  file.close();
  CHECK_EQ(openDescriptors(), before);
}

TEST(socket, listens_at_any_address_and_refuses_those_of_others) {
  const Patience patience(20000, nullptr);
  for (const char* host : {"127.0.0.1", "0.0.0.0", "localhost", "::"}) {
    const Note note("host", host);
    ControlListener listener{};
    if (outcomeOf([&] { listener = openControlListener(host); }) != "done") {
      // A machine without IPv6 is no failure, one that does not know itself is.
      CHECK_EQ(std::string(host), "::");
      continue;
    }
    const ConnectAttempt attempt = connectTo("127.0.0.1", listener.port, patience);
    CHECK(attempt.socket.open());
    CHECK(closedInChildren(attempt.socket.number()));
    REQUIRE(awaitReady(listener.descriptor, POLLIN, patience));
    const Descriptor accepted = acceptConnection(listener.descriptor);
    CHECK(accepted.open());
    CHECK(closedInChildren(accepted.number()));
    closeControlListener(listener.descriptor);
  }
  CHECK_THROWS("ERR_COMM", "Expected an address of this machine", openControlListener("192.0.2.1"));
  CHECK_THROWS("ERR_COMM", "cannot be found", openControlListener("no such host"));
  CHECK(!connectTo("no such host", 1, patience).socket.open());
}

TEST(socket, nobody_listens) {
  const ControlListener listener = openControlListener("127.0.0.1");
  closeControlListener(listener.descriptor);
  const ConnectAttempt attempt = connectTo("127.0.0.1", listener.port, Patience(20000, nullptr));
  CHECK(!attempt.socket.open());
  CHECK(attempt.refused);
}

TEST(socket, patience_ends_by_time_and_by_its_flag) {
  const auto [one, other] = connectedPair();
  CHECK(!awaitReady(one.number(), POLLIN, Patience(30, nullptr)));
  std::atomic<bool> stop{false};
  TestThreads stopper;
  stopper.start([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    stop = true;
  });
  const Patience endless(std::numeric_limits<int64_t>::max(), &stop);
  CHECK_THROWS("ERR_ABORTED", "stopped", awaitReady(one.number(), POLLIN, endless));
  stopper.join();
  CHECK_EQ(showSeconds(std::chrono::milliseconds(8040)), "8.0 s");
}

TEST(socket, reads_exactly) {
  auto [one, other] = connectedPair();
  const Patience patience(50, nullptr);
  CHECK(sendSmall(one.number(), reinterpret_cast<const uint8_t*>("abcdef"), 6));
  uint8_t bytes[6];
  CHECK(readExactly(other.number(), bytes, 4, patience) == Read::kAll);
  CHECK(std::memcmp(bytes, "abcd", 4) == 0);
  CHECK(readExactly(other.number(), bytes, 4, patience) == Read::kLate);
  one.close();
  CHECK(readExactly(other.number(), bytes, 4, patience) == Read::kClosed);
  // And no signal ends the program.
  CHECK(!sendSmall(other.number(), bytes, 1));
}

TEST(socket, headers) {
  for (int kind = 0; kind < 256; ++kind) {
    const FrameHeader header{static_cast<FrameKind>(kind), 0xabcd, 0};
    const auto decoded = decodeHeader(encodeHeader(header));
    CHECK_EQ(decoded.has_value(), kind >= 1 && kind <= 8);
    if (decoded) CHECK_EQ(decoded->rank, 0xabcd);
  }
  const auto most = static_cast<uint32_t>(kMostMessageBytes);
  CHECK_EQ(decodeHeader(encodeHeader({FrameKind::kMessage, 0, most}))->bytes, most);
  CHECK(!decodeHeader(encodeHeader({FrameKind::kExchange, 0, most + 1})));
  CHECK(!decodeHeader(encodeHeader({FrameKind::kFail, 0, 2001})));
  CHECK(!decodeHeader(encodeHeader({FrameKind::kHeartbeat, 0, 1})));
  HeaderBytes bytes = encodeHeader({FrameKind::kEnd, 0, 0});
  bytes[0] ^= 1;
  CHECK(!decodeHeader(bytes));
}

TEST(socket, reasons_are_one_line) {
  CHECK_EQ(oneLine("two\nlines\x7f"), "two lines ");
  CHECK_EQ(oneLine(std::string(3000, 'x')).size(), 2000u);
  // A character of three bytes lies across the limit.
  CHECK_EQ(oneLine(std::string(1999, 'x') + "\u20ac" + "y").size(), 1999u);
  CHECK_EQ(oneLine(std::string(1997, 'x') + "\u20ac").size(), 2000u);
}

static Link::Payload randomPayload(Random& random, size_t bytes) {
  std::vector<uint8_t> payload(bytes);
  for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random.bits());
  return std::make_shared<const std::vector<uint8_t>>(std::move(payload));
}

// Frames of all sizes, written quicker than they are read, arrive whole and in order.
TEST(socket, links_keep_frames_in_order) {
  auto [one, other] = connectedPair();
  Link writer(std::move(one), 1), reader(std::move(other), 0);
  Random random(3);
  std::vector<Link::Payload> sent;
  std::vector<Frame> received;
  for (int i = 0; i < (kReduced ? 60 : 400); ++i) {
    constexpr int64_t kSizes[] = {0, 1, 50, 3000, 65535, 65536, 300000};
    sent.push_back(randomPayload(random, static_cast<size_t>(random.between(0, kSizes[random.below(7)]))));
    CHECK(writer.write(FrameKind::kMessage, sent.back(), i));
    writer.write(FrameKind::kHeartbeat);
    if (random.chance(0.1)) CHECK(reader.read(received) == Link::State::kOpen);
  }
  CHECK(writer.waiting());
  for (int round = 0; round < 100000 && writer.waiting(); ++round) {
    writer.flush();
    reader.read(received);
  }
  CHECK(reader.read(received) == Link::State::kOpen);
  std::erase_if(received, [](const Frame& frame) { return frame.header.kind == FrameKind::kHeartbeat; });
  REQUIRE(received.size() == sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    CHECK_EQ(received[i].header.rank, i);
    CHECK(received[i].payload == *sent[i]);
  }
}

TEST(socket, a_link_takes_no_more_than_it_can_hold) {
  auto [one, other] = connectedPair();
  Link writer(std::move(one), 1);
  const auto large = std::make_shared<const std::vector<uint8_t>>(8 << 20);
  int taken = 0;
  while (taken < 100 && writer.write(FrameKind::kMessage, large)) ++taken;
  CHECK(taken >= 2 && taken < 20);
  // Frames without bytes have a price as well.
  int64_t empty = 0;
  while (empty < 10'000'000 && writer.write(FrameKind::kMessage)) ++empty;
  CHECK(empty < 10'000'000);
}

// What was sent makes room again, to the last byte: in each round a link takes as many messages as in the first.
TEST(socket, a_link_has_room_again_for_what_was_sent) {
  auto [one, other] = connectedPair();
  Link writer(std::move(one), 1), reader(std::move(other), 0);
  const auto large = std::make_shared<const std::vector<uint8_t>>(9 << 20);
  int first = 0;
  for (int round = 0; round < (kReduced ? 2 : 4); ++round) {
    // Behind a message that is under way, so that those counted here all wait.
    CHECK(writer.write(FrameKind::kMessage, large));
    int taken = 0;
    while (taken < 100 && writer.write(FrameKind::kMessage, large)) ++taken;
    if (round == 0) first = taken;
    CHECK_EQ(taken, first);
    std::vector<Frame> frames;
    for (int step = 0; step < 1'000'000 && frames.size() <= static_cast<size_t>(taken); ++step) {
      writer.flush();
      CHECK(reader.read(frames) == Link::State::kOpen);
    }
    CHECK_EQ(frames.size(), static_cast<size_t>(taken) + 1);
    CHECK(!writer.waiting());
  }
}

// The frame that has been begun is sent to its end, others give way to an urgent one.
TEST(socket, the_last_frame_may_be_urgent) {
  for (const bool urgent : {false, true}) {
    auto [one, other] = connectedPair();
    Link writer(std::move(one), 1), reader(std::move(other), 0);
    const auto large = std::make_shared<const std::vector<uint8_t>>(4 << 20);
    for (int i = 0; i < 3; ++i) writer.write(FrameKind::kMessage, large);
    writer.writeLast(FrameKind::kFail, nullptr, urgent);
    writer.write(FrameKind::kMessage, large);
    writer.writeLast(FrameKind::kEnd, nullptr, true);
    std::vector<Frame> frames;
    for (int round = 0; round < 100000 && reader.read(frames) == Link::State::kOpen; ++round) writer.drain();
    REQUIRE(frames.size() == (urgent ? 2u : 4u));
    CHECK_EQ(frames[0].payload.size(), large->size());
    CHECK(frames.back().header.kind == FrameKind::kFail);
  }
}

TEST(socket, links_tell_why_they_end) {
  std::vector<Frame> frames;
  {
    auto [one, other] = connectedPair();
    Link reader(std::move(other), 0);
    sendSmall(one.number(), reinterpret_cast<const uint8_t*>("GET / HTTP/1.1"), 14);
    CHECK(reader.read(frames) == Link::State::kBroken);
    CHECK_EQ(reader.failure(), "it sent bytes that are no message of this version");
  }
  {
    auto [one, other] = connectedPair();
    Link reader(std::move(other), 0);
    const HeaderBytes header = encodeHeader({FrameKind::kEnd, 0, 0});
    sendSmall(one.number(), header.data(), header.size());
    one.close();
    // What was said before is heard; writing meanwhile is no error.
    reader.write(FrameKind::kHeartbeat);
    CHECK(reader.read(frames) == Link::State::kClosed || reader.read(frames) == Link::State::kClosed);
    REQUIRE(frames.size() == 1);
    CHECK(frames[0].header.kind == FrameKind::kEnd);
  }
}

}  // namespace shardspeed::test
