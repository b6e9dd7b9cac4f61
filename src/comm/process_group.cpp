#include "comm/process_group.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <mutex>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/frame.h"
#include "comm/handshake.h"
#include "comm/inbox.h"
#include "comm/link.h"
#include "comm/lost_time.h"
#include "comm/shared_memory.h"

namespace shardspeed {

namespace {

constexpr auto kSpin = std::chrono::microseconds(50);  // for how long a rank polls before it sleeps
constexpr auto kNap = std::chrono::milliseconds(10);   // of the monitor, after the rank's thread has stopped waiting
constexpr auto kFarewell = std::chrono::seconds(1);    // for queued messages when the group has ended
constexpr auto kMostBeat = std::chrono::milliseconds(1000);
constexpr int64_t kLongestSilenceMs = 1000ll * 3600 * 24 * 365;  // so that no limit overflows a clock
static_assert(kMostRanks <= std::numeric_limits<uint16_t>::max(), "a frame has room for the rank");

std::string rankText(int rank) {
  return "rank " + std::to_string(rank);
}

Link::Payload payloadOf(Group::Bytes bytes) {
  return std::make_shared<const Group::Bytes>(std::move(bytes));
}

class ProcessGroup final : public Group {
 public:
  ProcessGroup(const ProcessGroupOptions& options, std::vector<std::unique_ptr<Link>> links)
      : rank_(options.rank),
        size_(options.size),
        silenceLimit_(std::chrono::milliseconds(std::min(options.silenceLimitMs, kLongestSilenceMs))),
        beat_(std::clamp<Clock::duration>(silenceLimit_ / 8, std::chrono::milliseconds(1), kMostBeat)),
        onOver_(options.onOver),
        links_(std::move(links)),
        inbox_(options.rank, options.size),
        lost_(firstHeard(links_), beat_) {
    if (links_.empty()) return;
    try {
      monitor_ = std::thread([this] { monitorMain(); });
    } catch (const std::system_error& error) {
      throw Error("ERR_OUT_OF_MEMORY", std::string("the system starts no thread for the connections of the ranks: ") +
                                           error.what() + ". Use fewer threads");
    }
  }

  ~ProcessGroup() override {
    finish({true, rankText(rank_) + " has left before the group's work was done"}, false);
    if (monitor_.joinable()) monitor_.join();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void send(const Bytes& message) override {
    check();
    checkSize(message);
    const Link::Payload payload = payloadOf(message);
    for (const auto& link : links_) write(*link, FrameKind::kMessage, payload, 0);
  }

  Bytes receive() override {
    const std::unique_lock<std::mutex> lock = await([this] { return inbox_.hasMessage(); });
    return inbox_.nextMessage();
  }

  std::vector<Bytes> exchange(const Bytes& mine) override {
    check();
    checkSize(mine);
    if (rank_ != 0) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        inbox_.beginExchange();
      }
      write(*links_[0], FrameKind::kExchange, payloadOf(mine), rank_);
    }
    std::vector<Bytes> parts;
    {
      const std::unique_lock<std::mutex> lock = await([this] { return inbox_.hasAllParts(); });
      parts = inbox_.takeParts();
    }
    parts[static_cast<size_t>(rank_)] = mine;
    if (rank_ == 0) spread(parts);
    return parts;
  }

  std::shared_ptr<uint8_t> shareMemory(size_t bytes) override { return shareMemoryByExchange(*this, bytes); }

  void end() override { finish({false, ""}, true); }

  void fail(const std::string& reason) override {
    const bool named = reason.rfind("rank ", 0) == 0;
    finish({true, named ? reason : rankText(rank_) + " has failed: " + reason}, true);
  }

  void check() const override {
    if (!over()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    throwEnding();
  }

 private:
  static Clock::time_point firstHeard(const std::vector<std::unique_ptr<Link>>& links) {
    auto first = Clock::now();
    for (const auto& link : links) first = std::min(first, link->lastHeard());
    return first;
  }

  void checkSize(const Bytes& bytes) {
    if (bytes.size() <= kMostMessageBytes) return;
    fail("it has " + std::to_string(bytes.size()) + " bytes to send at once, " + std::to_string(kMostMessageBytes) +
         " are the most");
    check();
  }

  void write(Link& link, FrameKind kind, const Link::Payload& payload, int rank) {
    const bool taken = link.write(kind, payload, rank);
    if (!taken)
      fail(rankText(link.peer()) + " takes no more messages of rank " + std::to_string(rank_) +
           ": too many wait for it");
    if (link.waiting()) wake_.ring();
  }

  // Rank 0: sends each of the others the parts of all others.
  void spread(const std::vector<Bytes>& parts) {
    for (size_t rank = 0; rank < parts.size(); ++rank) {
      const Link::Payload payload = payloadOf(parts[rank]);
      for (const auto& link : links_)
        if (link->peer() != static_cast<int>(rank)) write(*link, FrameKind::kExchange, payload, static_cast<int>(rank));
    }
  }

  // The caller holds the lock.
  void throwEnding() const {
    if (!ending_) return;
    if (ending_->failed) throw Error("ERR_COMM", ending_->reason);
    throw GroupEnded{};
  }

  // Marks that a thread is in await(), and reads the connections.
  class Awaiting {
   public:
    explicit Awaiting(ProcessGroup& group) : group_(group) { group_.awaiting_.store(true); }
    ~Awaiting() {
      group_.lastAwaited_.store(Clock::now().time_since_epoch().count());
      group_.awaiting_.store(false);
      if (group_.dozing_.exchange(false)) group_.wake_.ring();
    }

   private:
    ProcessGroup& group_;
  };

  // Waits until ready() is true under the lock, and returns with the lock. Messages that came before an end can still
  // be taken; a failure throws at once. The waiting thread reads the connections itself: a second thread that reads and
  // then wakes it would take twice as long.
  template <typename Ready>
  std::unique_lock<std::mutex> await(Ready&& ready) {
    const Awaiting awaiting(*this);
    const auto spinEnd = Clock::now() + kSpin;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      if (ending_ && (ending_->failed || !ready())) throwEnding();
      if (ready()) return lock;
      lock.unlock();
      if (Clock::now() < spinEnd)
        std::this_thread::yield();
      else
        sleepForFrames();
      for (const auto& link : links_) pump(*link, std::unique_lock<std::mutex>(link->readMutex));
    }
  }

  void sleepForFrames() {
    std::vector<pollfd> wanted(1, {bell_.descriptor(), POLLIN, 0});
    for (const auto& link : links_) wanted.push_back({link->descriptor(), POLLIN, 0});
    pollOnce(wanted.data(), wanted.size(), -1);
    if (wanted[0].revents != 0) bell_.silence();
  }

  // Reads frames and hands them on. The lock keeps frames, and decisions that follow from them, in order: of two
  // threads that read, the first may have found the reason for an end, the second only a closed connection.
  void pump(Link& link, std::unique_lock<std::mutex> reading) {
    std::optional<Ending> ending;
    try {
      std::vector<Frame> frames;
      const Link::State state = link.read(frames);
      if (!frames.empty()) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (size_t i = 0; i < frames.size() && !ending; ++i) ending = inbox_.take(link.peer(), frames[i]);
      }
      if (!ending && state == Link::State::kClosed) ending = gone(link);
      if (!ending && state == Link::State::kBroken)
        ending = {true, rankText(link.peer()) + " cannot be understood: " + link.failure()};
    } catch (const std::exception& error) {
      ending = {true, rankText(rank_) + " could not take a message of " + rankText(link.peer()) + ": " + error.what()};
    }
    if (!ending || !decide(std::move(*ending))) return;
    reading.unlock();
    announce(true);
  }

  static Ending gone(const Link& link) {
    const std::string why = link.failure().empty() ? "" : " (" + link.failure() + ")";
    return {true, rankText(link.peer()) + " is gone: its connection closed" + why};
  }

  void finish(Ending ending, bool callback) {
    if (decide(std::move(ending))) announce(callback);
  }

  // False if the group has ended already.
  bool decide(Ending ending) {
    ending.reason = oneLine(ending.reason);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (ending_) return false;
    ending_ = std::move(ending);
    endedAt_ = Clock::now();
    over_.store(true, std::memory_order_release);
    return true;
  }

  // Called by the thread for which decide() returned true: ending_ does not change any more.
  void announce(bool callback) {
    bell_.ring();
    try {
      const std::string& reason = ending_->reason;
      const Link::Payload payload = ending_->failed ? payloadOf(Bytes(reason.begin(), reason.end())) : nullptr;
      const FrameKind kind = ending_->failed ? FrameKind::kFail : FrameKind::kEnd;
      for (const auto& link : links_) link->writeLast(kind, payload, ending_->failed);
    } catch (const std::bad_alloc&) {
      // The others see that the connection closes.
    }
    told_.store(true, std::memory_order_release);
    wake_.ring();
    if (callback && onOver_) onOver_();
  }

  void monitorMain() {
    try {
      while (!told_.load(std::memory_order_acquire)) watch();
    } catch (const std::exception& error) {
      finish({true, rankText(rank_) + " cannot watch its connections any more: " + error.what()}, true);
    }
    try {
      sayFarewell();
    } catch (const std::exception&) {
      // There is nobody left to tell.
    }
    for (const auto& link : links_) link->close();
  }

  // One round of the monitor. Takes at most the time between two heartbeats.
  void watch() {
    const auto begun = Clock::now();
    if (begun >= nextBeat_) {
      for (const auto& link : links_) link->write(FrameKind::kHeartbeat);
      nextBeat_ = begun + beat_;
    }
    auto planned = nextBeat_;
    for (const auto& link : links_) planned = std::min(planned, link->lastHeard() + silenceLimit_);
    // While a thread of the rank waits for messages, or will soon wait again, the monitor does not wake up for each
    // one.
    dozing_.store(true);
    const bool awaiting = awaiting_.load();
    if (!awaiting) dozing_.store(false);
    const auto napEnd = Clock::time_point(Clock::duration(lastAwaited_.load())) + kNap;
    const bool naps = !awaiting && begun < napEnd;
    if (naps) planned = std::min(planned, napEnd);
    sleepUntil(planned, awaiting || naps ? 0 : POLLIN);
    for (size_t i = 0; i < links_.size(); ++i) {
      const short ready = wanted_[i + 1].revents;
      if (ready & POLLOUT) links_[i]->flush();
      if (ready & ~POLLOUT) pumpForOthers(*links_[i]);
    }
    judge();
  }

  void pumpForOthers(Link& link) {
    pump(link, std::unique_lock<std::mutex>(link.readMutex));
    // The waiting thread may sleep in poll(), and these bytes, being read, do not wake it any more.
    if (awaiting_.load()) bell_.ring();
  }

  void judge() {
    // All is judged as of this moment, up to which it is known how much time this process itself has lost: it may be
    // stopped at any later one too.
    const auto now = Clock::now();
    const auto lost = lost_.until(now);
    for (const auto& link : links_) {
      link->excuse(lost, now);
      if (now - link->lastHeard() <= silenceLimit_) continue;
      pumpForOthers(*link);
      const auto silence = now - link->lastHeard();
      if (silence > silenceLimit_)
        finish({true,
                rankText(link->peer()) + " has been silent for " + showSeconds(silence) + ": it is stopped or cut off"},
               true);
    }
  }

  void sleepUntil(Clock::time_point time, short events) {
    wanted_.assign(1, {wake_.descriptor(), POLLIN, 0});
    for (const auto& link : links_)
      wanted_.push_back({link->descriptor(), static_cast<short>(events | (link->waiting() ? POLLOUT : 0)), 0});
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - Clock::now()).count();
    pollOnce(wanted_.data(), wanted_.size(), static_cast<int>(std::clamp<int64_t>(left, 0, 60000)));
    if (wanted_[0].revents != 0) wake_.silence();
  }

  // The group has ended: sends the queues, and gives the others time to read.
  void sayFarewell() {
    const auto deadline = endedAt_ + kFarewell;
    for (;;) {
      bool done = true;
      for (const auto& link : links_) done = link->drain() && done;
      if (done || Clock::now() >= deadline) return;
      sleepUntil(deadline, POLLIN);
    }
  }

  const int rank_, size_;
  const Clock::duration silenceLimit_, beat_;
  const std::function<void()> onOver_;
  const std::vector<std::unique_ptr<Link>> links_;  // rank 0: to all others; the others: to rank 0
  WakeUp wake_;                                     // wakes the monitor
  WakeUp bell_;                                     // wakes the thread in await()
  std::atomic<bool> awaiting_{false};               // a thread is in await()
  std::atomic<Clock::rep> lastAwaited_{0};          // when one left await() last
  std::atomic<bool> dozing_{false};                 // the monitor asks to be woken when none is in await() any more

  mutable std::mutex mutex_;
  Inbox inbox_;
  std::optional<Ending> ending_;
  Clock::time_point endedAt_;
  std::atomic<bool> told_{false};  // the frames that tell the others of the end are queued

  // Used by the monitor only.
  LostTime lost_;
  Clock::time_point nextBeat_;
  std::vector<pollfd> wanted_;
  std::thread monitor_;
};

void checkOptions(const ProcessGroupOptions& options) {
  const auto expect = [](bool holds, const std::string& expected, int64_t found) {
    if (!holds)
      throw Error("ERR_INVALID_ARGUMENT", "Expected " + expected + " of a group, found " + std::to_string(found));
  };
  expect(options.size >= 1 && options.size <= kMostRanks, "a size of 1 to " + std::to_string(kMostRanks), options.size);
  expect(options.rank >= 0 && options.rank < options.size, "a rank below its size", options.rank);
  expect(options.silenceLimitMs >= 1, "a limit of silence of at least 1 ms", options.silenceLimitMs);
}

}  // namespace

std::unique_ptr<Group> makeProcessGroup(const ProcessGroupOptions& options) {
  Descriptor listener;
  if (options.listener >= 0 || (options.rank == 0 && options.size > 1))
    listener = takeControlListener(options.listener);
  checkOptions(options);
  const Patience patience(options.connectLimitMs, options.stop);
  const Membership self{options.rank, options.size, options.key};
  std::vector<std::unique_ptr<Link>> links;
  if (options.rank > 0) {
    listener.close();
    links.push_back(std::make_unique<Link>(joinLeader(options.leaderHost, options.leaderPort, self, patience), 0));
  } else if (options.size > 1) {
    std::vector<Descriptor> sockets = admitRanks(std::move(listener), self, patience);
    for (size_t rank = 1; rank < sockets.size(); ++rank)
      links.push_back(std::make_unique<Link>(std::move(sockets[rank]), static_cast<int>(rank)));
    for (const auto& link : links) link->write(FrameKind::kReady);
  }
  return std::make_unique<ProcessGroup>(options, std::move(links));
}

}  // namespace shardspeed
