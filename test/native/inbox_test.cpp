#include "comm/inbox.h"

#include <string>

#include "check.h"

namespace shardspeed::test {

using Bytes = Group::Bytes;

static std::optional<Ending> give(Inbox& inbox, int peer, FrameKind kind, int rank = 0, Bytes payload = {}) {
  Frame frame{{kind, static_cast<uint16_t>(rank), static_cast<uint32_t>(payload.size())}, payload};
  return inbox.take(peer, frame);
}

static bool isOutOfTurn(const std::optional<Ending>& ending, int peer) {
  return ending && ending->failed &&
         ending->reason == "rank " + std::to_string(peer) + " cannot be understood: it sent a message out of turn";
}

TEST(inbox, messages_in_order) {
  Inbox inbox(1, 3);
  CHECK(!inbox.hasMessage());
  CHECK(!give(inbox, 0, FrameKind::kMessage, 0, {1}));
  CHECK(!give(inbox, 0, FrameKind::kHeartbeat));
  CHECK(!give(inbox, 0, FrameKind::kMessage, 0, {2}));
  CHECK(inbox.nextMessage() == Bytes{1});
  CHECK(inbox.nextMessage() == Bytes{2});
  CHECK(!inbox.hasMessage());
  CHECK(!give(inbox, 0, FrameKind::kEnd)->failed);
  const auto failed = give(inbox, 0, FrameKind::kFail, 0, {'a', 'b'});
  CHECK(failed->failed);
  CHECK_EQ(failed->reason, "ab");
}

TEST(inbox, messages_do_not_pile_up) {
  Inbox inbox(1, 2);
  int64_t taken = 0;
  while (taken < 10'000'000 && !give(inbox, 0, FrameKind::kMessage)) ++taken;
  CHECK(taken > 1000 && taken < 10'000'000);
  Inbox other(1, 2);
  // One may be as large as it likes; those that are taken make room again.
  for (int round = 0; round < 3; ++round) {
    CHECK(!give(other, 0, FrameKind::kMessage, 0, Bytes(80 << 20)));
    CHECK_EQ(other.nextMessage().size(), size_t{80} << 20);
  }
  CHECK(!give(other, 0, FrameKind::kMessage, 0, Bytes(80 << 20)));
  CHECK_EQ(give(other, 0, FrameKind::kMessage)->reason, "rank 1 does not receive the messages of rank 0: 2 wait");
}

// Whoever takes what waits has the whole room again, however often.
TEST(inbox, messages_that_are_taken_give_all_their_room_back) {
  Inbox inbox(1, 2);
  int64_t first = 0;
  for (int round = 0; round < 3; ++round) {
    int64_t waiting = 1;  // the one that is refused waits too
    while (!give(inbox, 0, FrameKind::kMessage, 0, Bytes(static_cast<size_t>(waiting % 3)))) ++waiting;
    if (round == 0) first = waiting;
    CHECK_EQ(waiting, first);
    for (; waiting > 0; --waiting) inbox.nextMessage();
    CHECK(!inbox.hasMessage());
  }
}

TEST(inbox, parts_of_rank_0) {
  Inbox inbox(0, 3);
  for (int round = 0; round < 2; ++round) {
    CHECK(!give(inbox, 2, FrameKind::kExchange, 2, {2}));
    CHECK(!inbox.hasAllParts());
    CHECK(isOutOfTurn(give(inbox, 2, FrameKind::kExchange, 2, {2}), 2));
    CHECK(isOutOfTurn(give(inbox, 2, FrameKind::kExchange, 1, {2}), 2));
    CHECK(!give(inbox, 1, FrameKind::kExchange, 1, {}));
    CHECK(inbox.hasAllParts());
    CHECK(inbox.takeParts() == std::vector<Bytes>({{}, {}, {2}}));
  }
  for (const FrameKind kind : {FrameKind::kMessage, FrameKind::kAccepted, FrameKind::kRefused, FrameKind::kReady})
    CHECK(isOutOfTurn(give(inbox, 1, kind), 1));
}

TEST(inbox, parts_of_the_others) {
  Inbox inbox(1, 3);
  for (int round = 0; round < 2; ++round) {
    CHECK(isOutOfTurn(give(inbox, 0, FrameKind::kExchange, 0, {7}), 0));
    inbox.beginExchange();
    CHECK(isOutOfTurn(give(inbox, 0, FrameKind::kExchange, 1, {7}), 0));
    CHECK(isOutOfTurn(give(inbox, 0, FrameKind::kExchange, 3, {7}), 0));
    CHECK(isOutOfTurn(give(inbox, 0, FrameKind::kExchange, 65535, {7}), 0));
    CHECK(!give(inbox, 0, FrameKind::kExchange, 0, {7}));
    CHECK(isOutOfTurn(give(inbox, 0, FrameKind::kExchange, 0, {7}), 0));
    CHECK(!inbox.hasAllParts());
    CHECK(!give(inbox, 0, FrameKind::kExchange, 2, {8, 9}));
    CHECK(inbox.hasAllParts());
    CHECK(inbox.takeParts() == std::vector<Bytes>({{7}, {}, {8, 9}}));
  }
}

TEST(inbox, alone) {
  Inbox inbox(0, 1);
  CHECK(inbox.hasAllParts());
  CHECK_EQ(inbox.takeParts().size(), 1u);
}

}  // namespace shardspeed::test
