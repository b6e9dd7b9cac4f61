#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "group_ranks.h"
#include "random.h"

// Ranks as processes, which are killed, stopped, or end on their own. No case has threads when it forks.

namespace shardspeed::test {

using Bytes = Group::Bytes;

// What ranks do all day, until the group ends: steps are sent, memory is written, numbers are exchanged.
static void workBy(Group& group, size_t large) {
  ForkedRanks::tell();
  const auto memory = group.shareMemory(100000);
  ForkedRanks::tell();
  for (uint8_t step = 0;; ++step) {
    if (group.rank() == 0) {
      group.send(Bytes(1000, step));
    } else if (group.receive() != Bytes(1000, step)) {
      throw Error("ERR_NATIVE", "another message than expected");
    }
    memory.get()[group.rank()] = step;
    const auto all = group.exchange(Bytes(step % 3 == 0 ? large : 5, step));
    for (const Bytes& bytes : all)
      if (bytes[0] != step) throw Error("ERR_NATIVE", "another part than expected");
    for (int rank = 0; rank < group.size(); ++rank)
      if (memory.get()[rank] != step && memory.get()[rank] != static_cast<uint8_t>(step + 1))
        throw Error("ERR_NATIVE", "something else in the shared memory than expected");
  }
}

static void work(Group& group) {
  workBy(group, 70000);
}

static void wait(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// Rank 0 ends the group, the others wait for that: a rank that leaves before fails the group, also for a rank that has
// not read yet what it waits for.
static void endTogether(Group& group) {
  if (group.rank() == 0)
    group.end();
  else
    group.receive();
}

// "ERR_COMM: ..." for all but the ranks given, with the text given.
static void checkOutcomes(ForkedRanks& ranks, int size, int except, const std::string& part) {
  for (int rank = 0; rank < size; ++rank) {
    if (rank == except) continue;
    const std::string outcome = ranks.outcome(rank);
    const Note note("rank", rank, "outcome", outcome);
    CHECK_EQ(outcome.substr(0, 10), "ERR_COMM: ");
    CHECK(outcome.find(part) != std::string::npos);
  }
}

TEST(process_group_fault, a_rank_is_killed_at_work) {
  for (int killed = 0; killed < 3; ++killed) {
    const Note note("killed", killed);
    ForkedRanks ranks(3, work);
    REQUIRE(ranks.awaitTold(6));
    wait(20);
    ranks.signal(killed, SIGKILL);
    checkOutcomes(ranks, 3, killed, "rank " + std::to_string(killed) + " is gone: its connection closed");
    CHECK_EQ(ranks.outcome(killed), "killed");
  }
}

TEST(process_group_fault, a_process_ends_without_a_word) {
  for (int leaving = 0; leaving < 3; ++leaving) {
    const Note note("leaving", leaving);
    ForkedRanks ranks(3, [&](Group& group) {
      if (group.rank() == leaving) _exit(0);
      group.exchange({});
    });
    checkOutcomes(ranks, 3, leaving, "rank " + std::to_string(leaving) + " is gone: its connection closed");
    CHECK_EQ(ranks.outcome(leaving), "");
  }
}

TEST(process_group_fault, a_rank_is_stopped) {
  RankSettings settings;
  settings.silenceLimitMs = kReduced ? 3000 : 700;
  for (int stopped = 0; stopped < 3; ++stopped) {
    const Note note("stopped", stopped);
    // Frames that fit between two ranks as a whole: the reason of the end comes through to the stopped one.
    ForkedRanks ranks(
        3, [](Group& group) { workBy(group, 50); }, settings);
    REQUIRE(ranks.awaitTold(6));
    ranks.signal(stopped, SIGSTOP);
    const std::string reason = "rank " + std::to_string(stopped) + " has been silent for ";
    checkOutcomes(ranks, 3, stopped, reason);
    ranks.signal(stopped, SIGCONT);
    CHECK_EQ(ranks.outcome(stopped).substr(0, 10 + reason.size()), "ERR_COMM: " + reason);
  }
}

// Short enough for the limit: nothing happens.
TEST(process_group_fault, a_rank_is_stopped_for_a_moment) {
  ForkedRanks ranks(2, [](Group& group) {
    ForkedRanks::tell();
    for (int round = 0; round < 50; ++round) {
      if (group.rank() == 0)
        group.send({1});
      else
        group.receive();
      group.exchange({});
      wait(10);
    }
    if (group.rank() == 0) group.end();
  });
  REQUIRE(ranks.awaitTold(2));
  for (const int rank : {1, 0}) {
    ranks.signal(rank, SIGSTOP);
    wait(100);
    ranks.signal(rank, SIGCONT);
    wait(50);
  }
  CHECK_EQ(ranks.outcome(0), "done");
  CHECK_EQ(ranks.outcome(1), "done");
}

// As where a virtual machine stands still: none has been heard of for longer than the limit, and none is to blame.
TEST(process_group_fault, all_ranks_are_stopped_for_long) {
  RankSettings settings;
  settings.silenceLimitMs = kReduced ? 3000 : 700;
  ForkedRanks ranks(
      3,
      [](Group& group) {
        ForkedRanks::tell();
        // One waits, the others do something else.
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kReduced ? 6000 : 2500);
        while (group.rank() != 1 && std::chrono::steady_clock::now() < end && !group.over()) wait(5);
        group.exchange({});
        endTogether(group);
      },
      settings);
  REQUIRE(ranks.awaitTold(3));
  wait(100);
  for (int rank = 0; rank < 3; ++rank) ranks.signal(rank, SIGSTOP);
  wait(kReduced ? 4000 : 1500);
  for (int rank = 0; rank < 3; ++rank) ranks.signal(rank, SIGCONT);
  for (int rank = 0; rank < 3; ++rank) {
    const Note note("rank", rank);
    CHECK_EQ(ranks.outcome(rank), rank == 0 ? "done" : "ended");
  }
}

// A stopped rank does not read: what is sent to it must not hold up rank 0, neither while it is sent nor at the end.
TEST(process_group_fault, large_messages_to_a_stopped_rank) {
  RankSettings settings;
  settings.silenceLimitMs = kReduced ? 3000 : 700;
  ForkedRanks ranks(
      3,
      [](Group& group) {
        ForkedRanks::tell();
        if (group.rank() != 0) {
          for (;;) group.receive();
        }
        for (;;) {
          group.send(Bytes(20 << 20));
          wait(300);
        }
      },
      settings);
  REQUIRE(ranks.awaitTold(3));
  ranks.signal(1, SIGSTOP);
  checkOutcomes(ranks, 3, 1, "rank 1 ");
  ranks.signal(1, SIGCONT);
  CHECK_EQ(ranks.outcome(1).substr(0, 10), "ERR_COMM: ");
}

TEST(process_group_fault, memory_of_another_user) {
  if (geteuid() != 0) SKIP("only root can start a process of another user");
  ForkedRanks ranks(3, [](Group& group) {
    if (group.rank() == 2 && setuid(65534) != 0) throw Error("ERR_NATIVE", "the user stays the same");
    const std::string outcome = outcomeOf([&] { group.shareMemory(4096); });
    group.exchange({});
    outcomeOf([&] { endTogether(group); });
    throw Error("ERR_COMM", outcome);
  });
  checkOutcomes(ranks, 3, -1, "ERR_COMM: rank 2: the memory of rank 0 cannot be opened at /proc/");
}

static bool endedWell(const std::string& outcome) {
  return outcome.rfind("ERR_COMM: ", 0) == 0;
}

// Killed at any moment: of connecting, of sharing memory, of sending and exchanging.
TEST(process_group_fault, killed_at_any_moment) {
  Random random(29);
  int connected = 0;
  const int rounds = kReduced ? 12 : 100;
  for (int round = 0; round < rounds; ++round) {
    const int size = static_cast<int>(random.between(2, 4));
    const int killed = static_cast<int>(random.below(size));
    // Half of them in the first milliseconds, where all but the exchange happens, the others at work.
    const bool atWork = round % 2 == 1;
    RankSettings settings;
    // Ranks that never hear of the one that is gone wait for so long.
    if (!atWork) settings.connectLimitMs = kReduced ? 3000 : 1000;
    ForkedRanks ranks(size, work, settings);
    if (atWork) REQUIRE(ranks.awaitTold(2 * size));
    const int64_t longest = atWork ? 50 : kReduced ? 300 : 8;
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(longest * 1000)));
    ranks.signal(killed, SIGKILL);
    for (int rank = 0; rank < size; ++rank) {
      const std::string outcome = ranks.outcome(rank);
      const Note note("round", round, "size", size, "killed", killed, "rank", rank, "outcome", outcome);
      if (rank == killed) {
        // It may have been quicker than the signal only if another one ended: none does.
        CHECK_EQ(outcome, "killed");
      } else {
        CHECK(endedWell(outcome));
        connected += outcome.find(" is gone: ") != std::string::npos;
      }
    }
  }
  // Else all of this would have been about connecting.
  CHECK(connected >= rounds / 2);
}

// Every rank at once, in any order.
TEST(process_group_fault, all_are_killed_one_after_the_other) {
  Random random(31);
  for (int round = 0; round < (kReduced ? 3 : 20); ++round) {
    ForkedRanks ranks(4, work);
    wait(static_cast<int>(random.between(0, 20)));
    for (int left = 3; left > 0; --left) {
      ranks.signal(static_cast<int>(random.below(4)), SIGKILL);
      wait(static_cast<int>(random.between(0, 3)));
    }
    ranks.signal(0, SIGKILL);
    for (int rank = 0; rank < 4; ++rank) {
      const std::string outcome = ranks.outcome(rank);
      const Note note("outcome", outcome);
      CHECK(outcome == "killed" || endedWell(outcome));
    }
  }
}

}  // namespace shardspeed::test
