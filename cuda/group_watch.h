#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "comm/group.h"

namespace shardspeed::cuda {

// Calls onOver once, soon after the group has ended, from a thread of its own: the thread that computes may wait for a
// kernel just then, which waits for a rank that will not come.
class GroupWatch {
 public:
  GroupWatch(const Group& group, std::function<void()> onOver);
  ~GroupWatch();
  GroupWatch(const GroupWatch&) = delete;
  GroupWatch& operator=(const GroupWatch&) = delete;

 private:
  void watch();

  const Group& group_;
  std::function<void()> onOver_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool leaving_ = false;
  std::thread thread_;
};

}  // namespace shardspeed::cuda
