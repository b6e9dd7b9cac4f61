#include "runtime/engine.h"

#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "base/error.h"
#include "comm/thread_group.h"
#include "runtime/driver.h"

namespace shardspeed {

Engine::Engine(EngineOptions options, EventSink sink, std::function<void()> onExit)
    : options_(std::move(options)), sink_(std::move(sink)), onExit_(std::move(onExit)) {
  thread_ = std::thread([this] { threadMain(); });
}

Engine::~Engine() {
  requestStop();
  join();
}

void Engine::submit(std::unique_ptr<Sequence> sequence) {
  const int64_t id = sequence->id;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back({std::move(sequence), id});
  }
  wake_.notify_one();
}

void Engine::cancel(int64_t id) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands_.push_back({nullptr, id});
  }
  wake_.notify_one();
}

EngineStats Engine::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void Engine::requestStop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  // Ranks may wait for each other.
  const std::lock_guard<std::mutex> lock(groupMutex_);
  leaveGroup();
}

// The caller holds groupMutex_. Rank 0 ends the group; if another rank leaves, that is a failure for the rest.
void Engine::leaveGroup() {
  if (groups_.empty()) return;
  if (groups_[0]->rank() == 0)
    groups_[0]->end();
  else
    groups_[0]->fail("rank " + std::to_string(groups_[0]->rank()) + " was closed by its own process");
}

void Engine::join() {
  if (thread_.joinable()) thread_.join();
}

bool Engine::takeCommands(bool wait, std::vector<EngineCommand>& commands) {
  commands.clear();
  std::unique_lock<std::mutex> lock(mutex_);
  if (wait) wake_.wait(lock, [this] { return stop_ || groupOver_ || !commands_.empty(); });
  commands.swap(commands_);
  return !stop_;
}

void Engine::emit(Event&& event) {
  std::vector<Event> events;
  events.push_back(std::move(event));
  sink_(std::move(events));
}

void Engine::openGroup() {
  // Called by the thread that ends the group: wakes the thread that waits for commands.
  const auto onOver = [this] {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      groupOver_ = true;
    }
    wake_.notify_one();
  };
  std::vector<std::unique_ptr<Group>> groups;
  if (options_.processes) {
    options_.processes->stop = &stop_;
    options_.processes->onOver = onOver;
    groups.push_back(makeProcessGroup(*options_.processes));
  } else if (options_.tpSize > 1) {
    groups = makeThreadGroup(options_.tpSize, onOver);
  }
  const std::lock_guard<std::mutex> lock(groupMutex_);
  groups_ = std::move(groups);
  if (stop_) leaveGroup();
}

void Engine::closeGroup() {
  std::vector<std::unique_ptr<Group>> groups;
  {
    const std::lock_guard<std::mutex> lock(groupMutex_);
    groups.swap(groups_);
  }
}

void Engine::emitProgress() {
  Event event{EventKind::kProgress};
  event.loadedBytes = loadCounts_.loadedBytes;
  event.totalBytes = loadCounts_.totalBytes;
  emit(std::move(event));
}

// Only rank 0 reports for the ranks of its process.
void Engine::load(Rank& rank, int index, std::unique_ptr<Drafter>& drafter) {
  const auto start = std::chrono::steady_clock::now();
  if (index > 0) return rank.load(loadCounts_, {});
  // Only rank 0 makes drafts.
  if (options_.firstRank == 0) drafter = makeDrafter(options_, rank.pool(), stop_);
  rank.load(
      loadCounts_, [this] { emitProgress(); }, drafter ? drafter->memory() : RankMemory{});
  emitProgress();
  EngineStats stats;
  stats.kvPagesTotal = stats.kvPagesFree = options_.kvCachePages;
  stats.memory = rank.memory();
  publish(stats);
  Event ready{EventKind::kReady};
  ready.loadMs = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  ready.overflows = loadCounts_.overflows.counts();
  emit(std::move(ready));
}

void Engine::publish(const EngineStats& stats) {
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_ = stats;
}

void Engine::drive(Rank& rank, Drafter* drafter, Group* group) {
  Driver driver(options_, rank, drafter, sink_);
  publish(driver.stats());
  std::vector<EngineCommand> commands;
  while (takeCommands(driver.waits(), commands)) {
    if (group) group->check();
    for (EngineCommand& command : commands) driver.apply(command);
    if (!driver.step()) break;
    publish(driver.stats());
    driver.flush();
  }
}

// Runs one rank from its start to its end, on its thread.
void Engine::runRank(int index) {
  Group* group = groups_.empty() ? nullptr : groups_[static_cast<size_t>(index)].get();
  const std::string name = "rank " + std::to_string(options_.firstRank + index);
  std::unique_ptr<Rank> rank;
  std::unique_ptr<Drafter> drafter;
  const auto failed = [&](const std::string& reason) {
    {
      const std::lock_guard<std::mutex> lock(failureMutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    if (group) group->fail(name + ": " + reason);
  };
  try {
    rank = std::make_unique<Rank>(options_, index, group, stop_);
    load(*rank, index, drafter);
    if (group && group->rank() > 0)
      rank->follow();
    else
      drive(*rank, drafter.get(), group);
    if (group && group->rank() == 0) group->end();
  } catch (const GroupEnded&) {
    // Rank 0 has finished.
  } catch (const std::exception& error) {
    failed(error.what());
  } catch (...) {
    failed("unknown reason");
  }
  if (rank) rank->finish();
  ranksEnded_->arrive_and_wait();
}

void Engine::runRanks() {
  openGroup();
  const auto count = static_cast<int>(options_.devices.size());
  ranksEnded_.emplace(count);
  std::vector<std::thread> others;
  try {
    for (int index = 1; index < count; ++index) others.emplace_back([this, index] { runRank(index); });
  } catch (const std::exception& error) {
    const std::lock_guard<std::mutex> lock(failureMutex_);
    failure_ = std::make_exception_ptr(
        Error("ERR_OUT_OF_MEMORY", std::string("the system refused to start a thread for each rank: ") + error.what()));
    groups_[0]->fail("rank 0 could not start the others");
    ranksEnded_->count_down(count - static_cast<int>(others.size()));
  }
  // Ranks that have failed by now are waited for like the others: all meet at the end.
  if (static_cast<int>(others.size()) == count - 1) runRank(0);
  for (std::thread& other : others) other.join();
  closeGroup();
  if (failure_) std::rethrow_exception(failure_);
}

void Engine::threadMain() {
  Event last{EventKind::kEnded};
  try {
    runRanks();
  } catch (const GroupEnded&) {
    // The engine was stopped while the ranks were meeting.
  } catch (const Error& error) {
    last.code = error.code();
    last.message = error.what();
  } catch (const std::bad_alloc&) {
    last.code = "ERR_OUT_OF_MEMORY";
    last.message = "the engine could not allocate memory";
  } catch (const std::exception& error) {
    last.code = "ERR_NATIVE";
    last.message = error.what();
  } catch (...) {
    last.code = "ERR_NATIVE";
    last.message = "the engine failed for an unknown reason";
  }
  if (!last.code.empty()) last.kind = EventKind::kFailed;
  if (!stop_) emit(std::move(last));
  onExit_();
}

}  // namespace shardspeed
