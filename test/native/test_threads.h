#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace shardspeed::test {

// Runs body, in whichever thread this is. What it throws becomes a failed check of the case, in which `who` threw it.
// True where it threw nothing.
bool runChecked(const std::string& who, const std::function<void()>& body);

// The threads that a case starts, instead of std::thread: there an exception would end the whole program, and so would
// leaving the case without join().
class TestThreads {
 public:
  TestThreads() = default;
  ~TestThreads() { join(); }
  TestThreads(const TestThreads&) = delete;
  TestThreads& operator=(const TestThreads&) = delete;

  // Runs body by runChecked().
  void start(std::function<void()> body);
  // Waits until all are done.
  void join();

 private:
  std::vector<std::thread> threads_;
};

}  // namespace shardspeed::test
