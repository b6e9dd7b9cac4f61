#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/process_group.h"

// Groups of ranks for tests: threads of this process, or processes forked from it.

namespace shardspeed::test {

constexpr std::array<uint8_t, 32> kKey{1, 2, 3, 5, 8, 13};

// Ends the whole program, as a failure, where a test is still running after so many seconds.
class Watchdog {
 public:
  explicit Watchdog(int seconds);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct RankSettings {
  int64_t silenceLimitMs = 20000;
  int64_t connectLimitMs = 60000;
};

ProcessGroupOptions rankOptions(int rank, int size, const ControlListener& listener, RankSettings settings = {});

// Runs body(group) for each rank in a thread of its own and returns when all are done. What a body throws is a failure.
void runRanks(int size, const std::function<void(Group&)>& body, RankSettings settings = {});

// The same for the members of a group. What a body throws ends the group too: the others may wait for that rank.
void runRanks(const std::vector<std::unique_ptr<Group>>& groups, const std::function<void(Group&)>& body);

// What a call that waits ended by: "ended", "done" where it did not throw, else the code and the text of the Error.
std::string outcomeOf(const std::function<void()>& body);

// Ranks as processes. The parent is none of them, and must have no other threads.
class ForkedRanks {
 public:
  // Each process connects and runs body(group), within outcomeOf().
  ForkedRanks(int size, const std::function<void(Group&)>& body, RankSettings settings = {});
  // Kills and collects what is left.
  ~ForkedRanks();
  ForkedRanks(const ForkedRanks&) = delete;
  ForkedRanks& operator=(const ForkedRanks&) = delete;

  void signal(int rank, int number);
  // Waits until all ranks have written a line by tell(); false where they do not come.
  bool awaitTold(int ranks);
  // Waits for the process to end. Its outcome, "killed" where a signal ended it, or "hangs" where it did not end in
  // time (then it is killed).
  std::string outcome(int rank, std::chrono::milliseconds limit = std::chrono::seconds(60));

  // In a rank: tells the parent that it has come so far.
  static void tell();

 private:
  struct Child {
    pid_t process;
    int pipe;
    bool collected = false;
    std::string outcome;
  };
  std::vector<Child> children_;
  int told_ = -1;
};

int openDescriptors();
int runningThreads();

}  // namespace shardspeed::test
