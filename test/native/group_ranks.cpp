#include "group_ranks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>

#include "check.h"
#include "test_threads.h"

namespace shardspeed::test {

struct Watchdog::State {
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  TestThreads thread;
};

Watchdog::Watchdog(int seconds) : state_(std::make_unique<State>()) {
  state_->thread.start([state = state_.get(), seconds] {
    std::unique_lock<std::mutex> lock(state->mutex);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    if (state->wake.wait_until(lock, deadline, [&] { return state->done; })) return;
    std::printf("FAILED  the case hangs: it is not done after %d s\n", seconds);
    std::fflush(stdout);
    std::_Exit(1);
  });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->done = true;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

ProcessGroupOptions rankOptions(int rank, int size, const ControlListener& listener, RankSettings settings) {
  ProcessGroupOptions options;
  options.rank = rank;
  options.size = size;
  if (rank == 0) options.listener = listener.descriptor;
  options.leaderHost = "127.0.0.1";
  options.leaderPort = listener.port;
  options.key = kKey;
  options.silenceLimitMs = settings.silenceLimitMs;
  options.connectLimitMs = settings.connectLimitMs;
  return options;
}

void runRanks(int size, const std::function<void(Group&)>& body, RankSettings settings) {
  const ControlListener listener = openControlListener("127.0.0.1");
  TestThreads threads;
  for (int rank = 0; rank < size; ++rank)
    threads.start([&, rank] {
      runChecked("rank " + std::to_string(rank), [&] {
        const auto group = makeProcessGroup(rankOptions(rank, size, listener, settings));
        body(*group);
      });
    });
}

void runRanks(const std::vector<std::unique_ptr<Group>>& groups, const std::function<void(Group&)>& body) {
  TestThreads threads;
  for (const std::unique_ptr<Group>& group : groups)
    threads.start([&body, &group] {
      const std::string who = "rank " + std::to_string(group->rank());
      if (!runChecked(who, [&] { body(*group); })) group->fail(who + " failed in a test");
    });
}

std::string outcomeOf(const std::function<void()>& body) {
  try {
    body();
    return "done";
  } catch (const GroupEnded&) {
    return "ended";
  } catch (...) {
    return describeException();
  }
}

// Of the process of a rank.
static int tellPipe = -1;

ForkedRanks::ForkedRanks(int size, const std::function<void(Group&)>& body, RankSettings settings) {
  const ControlListener listener = openControlListener("127.0.0.1");
  int told[2];
  REQUIRE(pipe2(told, O_CLOEXEC) == 0);
  told_ = told[0];
  std::fflush(stdout);
  for (int rank = 0; rank < size; ++rank) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    const pid_t process = fork();
    REQUIRE(process >= 0);
    if (process == 0) {
      tellPipe = told[1];
      if (rank != 0) closeControlListener(listener.descriptor);
      const std::string outcome = outcomeOf([&] {
        const auto group = makeProcessGroup(rankOptions(rank, size, listener, settings));
        body(*group);
      });
      const ssize_t written = write(ends[1], outcome.data(), outcome.size());
      _exit(written == static_cast<ssize_t>(outcome.size()) ? 0 : 1);
    }
    close(ends[1]);
    children_.push_back({process, ends[0], false, ""});
  }
  close(told[1]);
  closeControlListener(listener.descriptor);
}

ForkedRanks::~ForkedRanks() {
  for (size_t rank = 0; rank < children_.size(); ++rank) outcome(static_cast<int>(rank), std::chrono::milliseconds(0));
  close(told_);
}

void ForkedRanks::signal(int rank, int number) {
  const Child& child = children_[static_cast<size_t>(rank)];
  if (!child.collected) kill(child.process, number);
}

bool ForkedRanks::awaitTold(int ranks) {
  for (int seen = 0; seen < ranks; ++seen) {
    pollfd wanted{told_, POLLIN, 0};
    char byte;
    if (poll(&wanted, 1, 60000) <= 0 || read(told_, &byte, 1) != 1) return false;
  }
  return true;
}

std::string ForkedRanks::outcome(int rank, std::chrono::milliseconds limit) {
  Child& child = children_[static_cast<size_t>(rank)];
  if (child.collected) return child.outcome;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  int status = 0;
  pid_t ended;
  while ((ended = waitpid(child.process, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  child.collected = true;
  if (ended == 0) {
    kill(child.process, SIGKILL);
    waitpid(child.process, &status, 0);
    child.outcome = "hangs";
  } else if (WIFSIGNALED(status)) {
    child.outcome = "killed";
  } else {
    char text[4096];
    const ssize_t got = read(child.pipe, text, sizeof text);
    child.outcome.assign(text, static_cast<size_t>(std::max<ssize_t>(got, 0)));
    // As sanitizers do where they have found something.
    if (WEXITSTATUS(status) != 0) child.outcome = "exit code " + std::to_string(WEXITSTATUS(status));
  }
  close(child.pipe);
  return child.outcome;
}

void ForkedRanks::tell() {
  const char byte = '.';
  if (write(tellPipe, &byte, 1) != 1) _exit(1);
}

static int entriesOf(const char* folder) {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

int openDescriptors() {
  return entriesOf("/proc/self/fd");
}

int runningThreads() {
  return entriesOf("/proc/self/task");
}

}  // namespace shardspeed::test
