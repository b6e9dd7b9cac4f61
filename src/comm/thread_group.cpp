#include "comm/thread_group.h"

#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/machine.h"
#include "base/spin.h"

namespace shardspeed {

namespace {

constexpr size_t kPageBytes = 4096;

class ThreadGroup;

// State that the ranks share.
struct Meeting {
  explicit Meeting(int size)
      : members(static_cast<size_t>(size)),
        mailboxes(members.size()),
        given(members.size()),
        crowded(size > availableProcessors()) {}

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<ThreadGroup*> members;
  std::function<void()> onOver;
  bool over = false;
  bool failed = false;
  std::string reason;

  struct Mailbox {
    std::deque<Group::Bytes> messages;
    std::atomic<uint64_t> arrived{0};  // messages so far, to be read without the lock
    uint64_t taken = 0;
  };
  std::vector<Mailbox> mailboxes;

  // The exchange under way, and the last one that is complete.
  std::vector<Group::Bytes> given;
  const bool crowded;
  size_t givenCount = 0;
  uint64_t round = 0;
  std::vector<Group::Bytes> complete;

  // The memory being shared.
  std::shared_ptr<uint8_t> memory;
};

class ThreadGroup final : public Group {
 public:
  ThreadGroup(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}
  ~ThreadGroup() override {
    const std::lock_guard<std::mutex> lock(meeting_->mutex);
    meeting_->members[static_cast<size_t>(rank_)] = nullptr;
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(meeting_->mailboxes.size()); }

  void send(const Bytes& message) override {
    {
      const std::lock_guard<std::mutex> lock(meeting_->mutex);
      throwIfOver();
      for (int rank = 1; rank < size(); ++rank) {
        Meeting::Mailbox& mailbox = meeting_->mailboxes[static_cast<size_t>(rank)];
        mailbox.messages.push_back(message);
        mailbox.arrived.fetch_add(1, std::memory_order_release);
      }
    }
    meeting_->wake.notify_all();
  }

  Bytes receive() override {
    Meeting::Mailbox& mailbox = meeting_->mailboxes[static_cast<size_t>(rank_)];
    // During generation the next step comes within a few tens of microseconds.
    const auto ready = [&] { return over() || mailbox.arrived.load(std::memory_order_acquire) != mailbox.taken; };
    spinShortly(ready, meeting_->crowded);
    std::unique_lock<std::mutex> lock(meeting_->mutex);
    meeting_->wake.wait(lock, [&] { return meeting_->over || !mailbox.messages.empty(); });
    if (mailbox.messages.empty() || meeting_->failed) throwIfOver();
    Bytes message = std::move(mailbox.messages.front());
    mailbox.messages.pop_front();
    ++mailbox.taken;
    return message;
  }

  std::vector<Bytes> exchange(const Bytes& mine) override {
    std::unique_lock<std::mutex> lock(meeting_->mutex);
    throwIfOver();
    Meeting& meeting = *meeting_;
    const uint64_t round = meeting.round;
    meeting.given[static_cast<size_t>(rank_)] = mine;
    if (++meeting.givenCount == meeting.given.size()) {
      meeting.complete = meeting.given;
      meeting.givenCount = 0;
      ++meeting.round;
      meeting.wake.notify_all();
    } else {
      meeting.wake.wait(lock, [&] { return meeting.over || meeting.round != round; });
      if (meeting.round == round) throwIfOver();
    }
    // The next round needs this rank's part, so this is still the result of this round.
    return meeting.complete;
  }

  std::shared_ptr<uint8_t> shareMemory(size_t bytes) override {
    if (rank_ == 0) {
      const size_t whole = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
      auto* memory = static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, whole));
      if (!memory)
        throw Error("ERR_OUT_OF_MEMORY", "the ranks cannot share " + std::to_string(bytes) + " bytes of memory");
      std::fill_n(memory, whole, uint8_t{0});
      const std::lock_guard<std::mutex> lock(meeting_->mutex);
      meeting_->memory = std::shared_ptr<uint8_t>(memory, [](uint8_t* held) { std::free(held); });
    }
    exchange({});
    std::shared_ptr<uint8_t> memory;
    {
      const std::lock_guard<std::mutex> lock(meeting_->mutex);
      memory = meeting_->memory;
    }
    exchange({});  // before rank 0 replaces it
    return memory;
  }

  void end() override { finish(false, {}); }
  void fail(const std::string& reason) override { finish(true, reason); }

  void check() const override {
    if (!over()) return;
    const std::lock_guard<std::mutex> lock(meeting_->mutex);
    throwIfOver();
  }

 private:
  // The caller holds the lock.
  void throwIfOver() const {
    if (!meeting_->over) return;
    if (meeting_->failed) throw Error("ERR_COMM", meeting_->reason);
    throw GroupEnded();
  }

  void finish(bool failed, const std::string& reason) {
    std::function<void()> onOver;
    {
      const std::lock_guard<std::mutex> lock(meeting_->mutex);
      if (meeting_->over) return;
      meeting_->over = true;
      meeting_->failed = failed;
      meeting_->reason = reason;
      for (ThreadGroup* member : meeting_->members)
        if (member) member->over_.store(true, std::memory_order_release);
      onOver = std::move(meeting_->onOver);
    }
    meeting_->wake.notify_all();
    if (onOver) onOver();
  }

  friend std::vector<std::unique_ptr<Group>> shardspeed::makeThreadGroup(int, std::function<void()>);

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Group>> makeThreadGroup(int size, std::function<void()> onOver) {
  auto meeting = std::make_shared<Meeting>(size);
  meeting->onOver = std::move(onOver);
  std::vector<std::unique_ptr<Group>> groups;
  for (int rank = 0; rank < size; ++rank) {
    auto member = std::make_unique<ThreadGroup>(meeting, rank);
    meeting->members[static_cast<size_t>(rank)] = member.get();
    groups.push_back(std::move(member));
  }
  return groups;
}

}  // namespace shardspeed
