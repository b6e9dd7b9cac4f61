#include "test_threads.h"

#include <utility>

#include "check.h"

namespace shardspeed::test {

bool runChecked(const std::string& who, const std::function<void()>& body) {
  try {
    body();
    return true;
  } catch (const CutShort&) {
    // Its reason is reported already.
  } catch (...) {
    FAIL(who + " threw: " + describeException());
  }
  return false;
}

void TestThreads::start(std::function<void()> body) {
  const std::string who = "thread " + std::to_string(threads_.size()) + " of the case";
  threads_.emplace_back([who, run = std::move(body)] { runChecked(who, run); });
}

void TestThreads::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace shardspeed::test
