#include "comm/process_group.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "comm/frame.h"
#include "group_ranks.h"
#include "test_threads.h"

namespace shardspeed::test {

using Bytes = Group::Bytes;

// Bytes that say who gave them when.
static Bytes bytesOf(int rank, int round, size_t count) {
  Bytes bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(31 * rank + 7 * round + static_cast<int>(i));
  return bytes;
}

static size_t countOf(int rank, int round) {
  constexpr size_t kCounts[] = {0, 1, 7, 300, 65536, 70001};
  return kCounts[static_cast<size_t>(rank + round) % std::size(kCounts)];
}

static void checkExchange(Group& group, int round) {
  const auto all = group.exchange(bytesOf(group.rank(), round, countOf(group.rank(), round)));
  CHECK_EQ(all.size(), group.size());
  for (int rank = 0; rank < group.size(); ++rank)
    CHECK(all[static_cast<size_t>(rank)] == bytesOf(rank, round, countOf(rank, round)));
}

TEST(process_group, messages_exchanges_and_memory) {
  const Watchdog watchdog(300);
  for (int size = 1; size <= 8; ++size) {
    const Note note("size", size);
    runRanks(size, [&](Group& group) {
      CHECK_EQ(group.size(), size);
      const int rounds = kReduced ? 10 : 50;
      for (int round = 0; round < rounds; ++round) {
        if (group.rank() == 0)
          group.send(bytesOf(0, round, countOf(0, round)));
        else
          CHECK(group.receive() == bytesOf(0, round, countOf(0, round)));
        if (round % 3 == 0) checkExchange(group, round);
      }
      const size_t bytes = 40000;
      const auto memory = group.shareMemory(bytes);
      for (size_t i = 0; i < bytes; ++i)
        if (memory.get()[i] != 0) return FAIL("shared memory is not zeroed");
      CHECK_EQ(reinterpret_cast<uintptr_t>(memory.get()) % 4096, 0u);
      group.exchange({});
      memory.get()[group.rank()] = static_cast<uint8_t>(100 + group.rank());
      group.exchange({});
      for (int rank = 0; rank < size; ++rank) CHECK_EQ(memory.get()[rank], 100 + rank);
      group.exchange({});
      if (group.rank() == 0) {
        CHECK(!group.over());
        group.end();
      }
      CHECK_EQ(group.rank() == 0 ? "ended" : outcomeOf([&] { group.receive(); }), "ended");
      CHECK(group.over());
    });
  }
}

TEST(process_group, large_exchange) {
  const Watchdog watchdog(300);
  const size_t bytes = size_t{kReduced ? 4 : 64} << 20;
  runRanks(3, [&](Group& group) {
    Bytes mine(bytes, static_cast<uint8_t>(group.rank() + 1));
    mine.back() = 99;
    const auto all = group.exchange(mine);
    for (size_t rank = 0; rank < 3; ++rank) {
      REQUIRE(all[rank].size() == bytes);
      Bytes expected(bytes, static_cast<uint8_t>(rank + 1));
      expected.back() = 99;
      CHECK(all[rank] == expected);
    }
    if (group.rank() == 0) group.end();
    CHECK_EQ(outcomeOf([&] {
               group.check();
               group.receive();
             }),
             "ended");
  });
}

TEST(process_group, more_bytes_than_a_message_may_have) {
  const Watchdog watchdog(300);
  if (kReduced) SKIP("256 MB are slow to fill under a sanitizer");
  runRanks(2, [&](Group& group) {
    const std::string outcome =
        outcomeOf([&] { group.exchange(Bytes(group.rank() == 1 ? kMostMessageBytes + 1 : 0)); });
    CHECK_EQ(outcome, "ERR_COMM: rank 1 has failed: it has 268435457 bytes to send at once, 268435456 are the most");
  });
}

// How a rank can wait.
static const std::vector<std::function<void(Group&)>>& waits() {
  static const std::vector<std::function<void(Group&)>> all = {
      [](Group& group) {
        if (group.rank() == 0)
          group.exchange({});
        else
          group.receive();
      },
      [](Group& group) {
        group.exchange({1, 2, 3});
      },
      [](Group& group) { group.shareMemory(100); },
      [](Group& group) {
        while (!group.over()) std::this_thread::yield();
        group.check();
      },
  };
  return all;
}

TEST(process_group, a_failure_reaches_whoever_waits) {
  const Watchdog watchdog(300);
  const int size = 4;
  for (int failing = 0; failing < size; ++failing)
    for (size_t wait = 0; wait < waits().size(); ++wait)
      for (const bool sleeping : {false, true}) {
        const Note note("failing", failing, "wait", wait);
        runRanks(size, [&](Group& group) {
          if (group.rank() == failing) {
            if (sleeping) std::this_thread::sleep_for(std::chrono::milliseconds(20));
            group.fail("no more\nwork");
            group.fail("too late");
            group.end();
          }
          const std::string expected = "ERR_COMM: rank " + std::to_string(failing) + " has failed: no more work";
          CHECK_EQ(outcomeOf([&] { waits()[wait](group); }), expected);
          CHECK(group.over());
          // From then on, whatever is called.
          CHECK_EQ(outcomeOf([&] { group.check(); }), expected);
          for (const auto& other : waits()) CHECK_EQ(outcomeOf([&] { other(group); }), expected);
          if (group.rank() == 0) CHECK_EQ(outcomeOf([&] { group.send({1}); }), expected);
        });
      }
}

TEST(process_group, a_reason_that_names_its_rank_is_left_as_it_is) {
  const Watchdog watchdog(60);
  runRanks(3, [](Group& group) {
    if (group.rank() == 2) group.fail("rank 2: no such file");
    CHECK_EQ(outcomeOf([&] { group.exchange({}); }), "ERR_COMM: rank 2: no such file");
  });
}

TEST(process_group, an_end_of_any_rank_reaches_all_after_the_messages) {
  const Watchdog watchdog(300);
  for (const int ending : {0, 2})
    runRanks(3, [&](Group& group) {
      const int count = 200;
      if (group.rank() == 0) {
        for (int i = 0; i < count; ++i) group.send(bytesOf(0, i, countOf(0, i)));
        if (ending == 0) group.end();
      } else {
        // Time for all to come before the first is taken.
        if (ending == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        for (int i = 0; i < count; ++i) CHECK(group.receive() == bytesOf(0, i, countOf(0, i)));
        if (group.rank() == 2 && ending == 2) {
          // Rank 1 may be at a message when it learns of the end.
          std::this_thread::sleep_for(std::chrono::milliseconds(100));
          group.end();
        }
      }
      CHECK_EQ(outcomeOf([&] { waits()[0](group); }), "ended");
      CHECK_EQ(outcomeOf([&] { group.exchange({}); }), "ended");
      CHECK_EQ(outcomeOf([&] { group.check(); }), "ended");
      group.fail("too late");
      CHECK_EQ(outcomeOf([&] { group.check(); }), "ended");
    });
}

TEST(process_group, a_rank_that_leaves_too_early) {
  const Watchdog watchdog(300);
  for (int leaving = 0; leaving < 3; ++leaving) {
    const Note note("leaving", leaving);
    runRanks(3, [&](Group& group) {
      if (group.rank() == leaving) return;
      const std::string expected =
          "ERR_COMM: rank " + std::to_string(leaving) + " has left before the group's work was done";
      CHECK_EQ(outcomeOf([&] { group.exchange({}); }), expected);
    });
  }
}

TEST(process_group, who_ends_the_group_calls_on_over_once) {
  const Watchdog watchdog(300);
  for (int round = 0; round < 20; ++round) {
    const ControlListener listener = openControlListener("127.0.0.1");
    std::vector<std::atomic<int>> calls(3);
    TestThreads threads;
    for (int rank = 0; rank < 3; ++rank)
      threads.start([&, rank] {
        ProcessGroupOptions options = rankOptions(rank, 3, listener);
        std::atomic<bool> woken{false};
        Group* self = nullptr;
        options.onOver = [&] {
          ++calls[static_cast<size_t>(rank)];
          CHECK(self->over());
          woken = true;
        };
        std::unique_ptr<Group> group = makeProcessGroup(options);
        self = group.get();
        // All have set `self` when the first ends the group.
        group->exchange({});
        if (rank == 0) group->exchange({});
        if (rank != 0) outcomeOf([&] { group->exchange({}); });
        if (round % 3 == rank) (round % 2 ? group->end() : group->fail("enough"));
        while (!woken) std::this_thread::yield();
      });
    threads.join();
    for (const auto& count : calls) CHECK_EQ(count.load(), 1);
  }
}

TEST(process_group, a_rank_that_does_not_receive_holds_nobody_up) {
  const Watchdog watchdog(300);
  runRanks(2, [&](Group& group) {
    if (group.rank() == 0) {
      const Bytes message(1 << 20, 7);
      const std::string outcome = outcomeOf([&] {
        for (int i = 0; i < 1000; ++i) group.send(message);
      });
      CHECK(outcome.find("ERR_COMM: rank 1 ") == 0);
    } else {
      while (!group.over()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
}

// Connections that are quiet for longer than the limit stay, thanks to the heartbeats.
TEST(process_group, idle_groups_stay) {
  const Watchdog watchdog(300);
  RankSettings settings;
  settings.silenceLimitMs = 1500;
  runRanks(
      3,
      [&](Group& group) {
        if (group.rank() == 0) {
          std::this_thread::sleep_for(std::chrono::milliseconds(4000));
          group.send({1});
          group.end();
        } else if (group.rank() == 1) {
          CHECK(group.receive() == Bytes{1});
        } else {
          while (!group.over()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
          CHECK(group.receive() == Bytes{1});
        }
        CHECK_EQ(outcomeOf([&] { waits()[0](group); }), "ended");
      },
      settings);
}

TEST(process_group, memory_of_different_sizes) {
  const Watchdog watchdog(60);
  runRanks(3, [&](Group& group) {
    const std::string outcome = outcomeOf([&] { group.shareMemory(group.rank() == 2 ? 4096 : 8192); });
    CHECK_EQ(
        outcome,
        "ERR_COMM: rank 2: it shares 4096 bytes where rank 0 shares 8192: the ranks disagree on what they compute");
    // The group goes on.
    checkExchange(group, 1);
    CHECK(group.shareMemory(0) != nullptr);
    CHECK_EQ(outcomeOf([&] { group.shareMemory(size_t{1} << 60); }).substr(0, 25), "ERR_OUT_OF_MEMORY: rank 0");
    if (group.rank() == 0) group.end();
    CHECK_EQ(outcomeOf([&] { waits()[0](group); }), "ended");
  });
}

TEST(process_group, nothing_stays_behind) {
  const Watchdog watchdog(300);
  const int descriptors = openDescriptors(), threads = runningThreads();
  for (int round = 0; round < 10; ++round)
    runRanks(4, [&](Group& group) {
      outcomeOf([&] { group.shareMemory(10000); });
      if (group.rank() == round % 4) {
        if (round % 3 == 0) group.end();
        if (round % 3 == 1) group.fail("enough");
        return;
      }
      outcomeOf([&] { group.exchange({}); });
    });
  CHECK_EQ(openDescriptors(), descriptors);
  CHECK_EQ(runningThreads(), threads);
}

TEST(process_group, options) {
  const auto made = [](int rank, int size, int64_t silence) {
    ProcessGroupOptions options;
    options.rank = rank, options.size = size, options.silenceLimitMs = silence;
    options.listener = rank == 0 ? openControlListener("127.0.0.1").descriptor : -1;
    options.leaderHost = "127.0.0.1", options.leaderPort = 1, options.connectLimitMs = 0;
    makeProcessGroup(options);
  };
  const int descriptors = openDescriptors();
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "found 0", made(0, 0, 1000));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "a size of 1 to 64 of a group, found 65", made(0, kMostRanks + 1, 1000));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "found 3", made(3, 3, 1000));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "found -1", made(-1, 3, 1000));
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "found 0", made(0, 3, 0));
  CHECK_EQ(openDescriptors(), descriptors);
}

}  // namespace shardspeed::test
