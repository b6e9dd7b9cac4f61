#include "cuda/group_watch.h"

#include <chrono>
#include <utility>

namespace shardspeed::cuda {

// A small part of what ranks are given to notice that another is gone, and too seldom to cost anything.
static constexpr std::chrono::milliseconds kBetweenLooks{20};

GroupWatch::GroupWatch(const Group& group, std::function<void()> onOver)
    : group_(group), onOver_(std::move(onOver)), thread_([this] { watch(); }) {}

GroupWatch::~GroupWatch() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    leaving_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void GroupWatch::watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!leaving_ && !group_.over()) wake_.wait_for(lock, kBetweenLooks);
  if (leaving_) return;
  lock.unlock();
  onOver_();
}

}  // namespace shardspeed::cuda
