#include <atomic>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "comm/group.h"
#include "test_threads.h"

// Cases that fail in all ways in which one can, for runner.test.ts: after each the program goes on.

namespace shardspeed::test {

TEST(failing, check) {
  CHECK_EQ(1 + 1, 3);
}

TEST(failing, require) {
  REQUIRE(1 + 1 == 3);
}

TEST(failing, throws) {
  throw Error("ERR_COMM", "a rank is gone");
}

TEST(failing, throws_what_is_no_exception) {
  throw GroupEnded();
}

TEST(failing, throws_after_many_failures) {
  for (int i = 0; i < 9; ++i) CHECK_EQ(i, -1);
  throw std::runtime_error("the tenth");
}

TEST(failing, many_failures) {
  for (int i = 0; i < 1000; ++i) CHECK_EQ(i, -1);
}

TEST(failing, thread_throws) {
  TestThreads threads;
  threads.start([] {});
  threads.start([] { throw Error("ERR_COMM", "rank 2 fell over"); });
}

TEST(failing, thread_throws_what_is_no_exception) {
  TestThreads threads;
  threads.start([] { throw GroupEnded(); });
  threads.join();
}

TEST(failing, thread_requires) {
  TestThreads threads;
  threads.start([] { REQUIRE(1 + 1 == 3); });
}

TEST(failing, thread_skips) {
  TestThreads threads;
  threads.start([] { SKIP("not here"); });
}

TEST(failing, many_failures_of_threads) {
  TestThreads threads;
  for (int i = 0; i < 4; ++i)
    threads.start([] {
      for (int round = 0; round < 100; ++round) CHECK_EQ(round, -1);
    });
}

// The case is left while its threads are at work.
TEST(failing, requires_beside_threads) {
  std::atomic<bool> done{false};
  TestThreads threads;
  threads.start([&] { done.wait(false); });
  threads.start([&] {
    done = true;
    done.notify_all();
  });
  REQUIRE(1 + 1 == 3);
}

TEST(passing, last) {
  CHECK_EQ(1 + 1, 2);
}

}  // namespace shardspeed::test
