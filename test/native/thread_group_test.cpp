#include "comm/thread_group.h"

#include <thread>

#include "check.h"

namespace shardspeed::test {

namespace {

template <typename Body>
void onRanks(std::vector<std::unique_ptr<Group>>& groups, Body&& body) {
  std::vector<std::thread> threads;
  for (auto& group : groups) threads.emplace_back([&body, &group] { body(*group); });
  for (std::thread& thread : threads) thread.join();
}

Group::Bytes bytesOf(int first, int second) {
  return {static_cast<uint8_t>(first), static_cast<uint8_t>(second)};
}

// What check() or a wait has thrown, as text.
template <typename Body>
std::string outcome(Body&& body) {
  try {
    body();
  } catch (const GroupEnded&) {
    return "ended";
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "went on";
}

}  // namespace

TEST(thread_group, messages_arrive_in_order_and_exchanges_are_complete) {
  for (const int size : {1, 2, 5}) {
    auto groups = makeThreadGroup(size);
    std::atomic<int> wrong{0};
    onRanks(groups, [&](Group& group) {
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
  onRanks(groups, [&](Group& group) {
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

TEST(thread_group, ends_once_for_all) {
  for (const bool failing : {false, true}) {
    int told = 0;
    auto groups = makeThreadGroup(3, [&] { ++told; });
    std::atomic<int> wrong{0};
    onRanks(groups, [&](Group& group) {
      const std::string expected = failing ? "ERR_COMM: rank 2 fell over" : "ended";
      if (group.rank() == 0) {
        group.send(bytesOf(1, 1));
        if (!failing) return group.end();
        if (outcome([&] { group.exchange({}); }) != expected) ++wrong;
      } else if (group.rank() == 2 && failing) {
        return group.fail("rank 2 fell over");
      } else {
        // What was sent before a proper end still arrives.
        const std::string first = outcome([&] { group.receive(); });
        if (!failing && first != "went on") ++wrong;
        if (outcome([&] { group.receive(); }) != expected) ++wrong;
      }
      if (!group.over()) ++wrong;
      group.fail("too late");
      if (outcome([&] { group.check(); }) != expected) ++wrong;
      if (outcome([&] { group.exchange({}); }) != expected) ++wrong;
    });
    CHECK_EQ(wrong.load(), 0);
    CHECK_EQ(told, 1);
  }
}

}  // namespace shardspeed::test
