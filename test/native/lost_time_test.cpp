#include "comm/lost_time.h"

#include <sys/socket.h>

#include "check.h"
#include "comm/link.h"

// Times are given, so that a process can be stopped here at any moment.

namespace shardspeed::test {

using std::chrono::milliseconds;

TEST(lost_time, a_thread_that_comes_by_in_time_has_lost_none) {
  const Clock::time_point begun{};
  LostTime lost(begun, milliseconds(100));
  for (const int at : {0, 100, 300, 301, 501}) {
    const Note note(at, "ms");
    CHECK(lost.until(begun + milliseconds(at)) == milliseconds(0));
  }
  // A late visit may be two rounds after the last one, and this one is a millisecond more.
  CHECK(lost.until(begun + milliseconds(702)) == milliseconds(101));
}

TEST(lost_time, is_measured_from_the_beginning_and_counted_once) {
  const Clock::time_point begun{};
  LostTime lost(begun, milliseconds(100));
  CHECK(lost.until(begun + milliseconds(5000)) == milliseconds(4900));
  CHECK(lost.until(begun + milliseconds(5100)) == milliseconds(0));
  CHECK(lost.until(begun + milliseconds(9100)) == milliseconds(3900));
}

// A thread that is always late lets a round pass for the others with each visit.
TEST(lost_time, the_silence_of_others_grows_though_a_thread_is_always_late) {
  const Clock::time_point begun{};
  LostTime lost(begun, milliseconds(100));
  auto heard = begun, now = begun;
  int visits = 0;
  for (; now - heard <= milliseconds(800) && visits < 50; ++visits) {
    now += milliseconds(1000);
    heard += lost.until(now);
  }
  CHECK_EQ(visits, 9);
}

static Link connectedLink() {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Descriptor(ends[1]).close();
  return Link(Descriptor(ends[0]), 1);
}

TEST(lost_time, excuses_a_link_up_to_now_at_most) {
  Link link = connectedLink();
  const auto heard = link.lastHeard();
  link.excuse(milliseconds(0), heard + milliseconds(900));
  CHECK(link.lastHeard() == heard);
  link.excuse(milliseconds(300), heard + milliseconds(900));
  CHECK(link.lastHeard() == heard + milliseconds(300));
  // Bytes came in the middle of what was lost.
  link.excuse(milliseconds(900), heard + milliseconds(1000));
  CHECK(link.lastHeard() == heard + milliseconds(1000));
  // And here behind the moment of the judgment.
  link.excuse(milliseconds(900), heard + milliseconds(400));
  CHECK(link.lastHeard() == heard + milliseconds(1000));
}

}  // namespace shardspeed::test
