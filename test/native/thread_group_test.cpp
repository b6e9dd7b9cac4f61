#include "comm/thread_group.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "group_ranks.h"

namespace shardspeed::test {

namespace {

Group::Bytes bytesOf(int first, int second) {
  return {static_cast<uint8_t>(first), static_cast<uint8_t>(second)};
}

}  // namespace

TEST(thread_group, messages_arrive_in_order_and_exchanges_are_complete) {
  for (const int size : {1, 2, 5}) {
    auto groups = makeThreadGroup(size);
    std::atomic<int> wrong{0};
    runRanks(groups, [&](Group& group) {
      if (group.size() != size) ++wrong;
      for (int round = 0; round < 100; ++round) {
        if (group.rank() == 0)
          group.send(bytesOf(round, 7));
        else if (group.receive() != bytesOf(round, 7))
          ++wrong;
        const auto all = group.exchange(bytesOf(group.rank(), round));
        if (static_cast<int>(all.size()) != size) ++wrong;
        for (int rank = 0; rank < size; ++rank)
          if (all.at(static_cast<size_t>(rank)) != bytesOf(rank, round)) ++wrong;
      }
    });
    CHECK_EQ(wrong.load(), 0);
  }
}

TEST(thread_group, memory_is_one_zeroed_and_outlives_the_group) {
  auto groups = makeThreadGroup(3);
  std::vector<std::shared_ptr<uint8_t>> held(3);
  std::atomic<int> wrong{0};
  runRanks(groups, [&](Group& group) {
    for (int round = 0; round < 5; ++round) {
      const auto memory = group.shareMemory(10'000);
      if (reinterpret_cast<uintptr_t>(memory.get()) % 4096 != 0) ++wrong;
      if (memory.get()[group.rank() + 1] != 0) ++wrong;
      memory.get()[group.rank() + 1] = static_cast<uint8_t>(group.rank() + 10);
      group.exchange({});
      for (int rank = 0; rank < 3; ++rank)
        if (memory.get()[rank + 1] != rank + 10) ++wrong;
      held[static_cast<size_t>(group.rank())] = memory;
    }
  });
  groups.clear();
  CHECK_EQ(wrong.load(), 0);
  for (const auto& memory : held) CHECK_EQ(static_cast<int>(memory.get()[2]), 11);
}

// One after the other without anything between: everybody has the same memory in each round.
TEST(thread_group, memory_is_not_replaced_before_all_have_it) {
  constexpr size_t kRounds = 2000;
  auto groups = makeThreadGroup(3);
  std::vector<std::vector<std::shared_ptr<uint8_t>>> held(3);
  runRanks(groups, [&](Group& group) {
    for (size_t round = 0; round < kRounds; ++round)
      held[static_cast<size_t>(group.rank())].push_back(group.shareMemory(1));
  });
  int64_t different = 0;
  for (size_t round = 0; round < kRounds; ++round)
    for (const auto& own : held) different += own[round] != held[0][round];
  CHECK_EQ(different, 0);
}

// Rank 0 sends a message before the group ends, or rank 2 has ended it by then.
TEST(thread_group, ends_once_for_all) {
  enum class Ending { kProper, kFailureAfterSend, kFailureBeforeSend };
  for (const Ending ending : {Ending::kProper, Ending::kFailureAfterSend, Ending::kFailureBeforeSend}) {
    const Note note("ending", ending);
    const bool failing = ending != Ending::kProper;
    const std::string expected = failing ? "ERR_COMM: rank 2 fell over" : "ended";
    int told = 0;
    std::atomic<bool> sent{false};
    auto groups = makeThreadGroup(3, [&] { ++told; });
    runRanks(groups, [&](Group& group) {
      if (group.rank() == 0) {
        while (ending == Ending::kFailureBeforeSend && !group.over()) std::this_thread::yield();
        CHECK_EQ(outcomeOf([&] { group.send(bytesOf(1, 1)); }),
                 ending == Ending::kFailureBeforeSend ? expected : "done");
        sent = true;
        if (!failing) return group.end();
        CHECK_EQ(outcomeOf([&] { group.exchange({}); }), expected);
      } else if (group.rank() == 2 && failing) {
        while (ending == Ending::kFailureAfterSend && !sent) std::this_thread::yield();
        return group.fail("rank 2 fell over");
      } else {
        // What was sent before a proper end still arrives.
        const std::string first = outcomeOf([&] { group.receive(); });
        CHECK(first == "done" || (failing && first == expected));
        CHECK_EQ(outcomeOf([&] { group.receive(); }), expected);
      }
      CHECK(group.over());
      group.fail("too late");
      CHECK_EQ(outcomeOf([&] { group.check(); }), expected);
      CHECK_EQ(outcomeOf([&] { group.exchange({}); }), expected);
    });
    CHECK_EQ(told, 1);
  }
}

}  // namespace shardspeed::test
