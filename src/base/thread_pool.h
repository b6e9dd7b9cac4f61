#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace shardspeed {

// A fixed group of threads that runs one parallel region after another, hundreds of them a step: workers spin briefly
// between regions and sleep when none comes. The caller is worker 0, so a pool of one thread starts none.
class ThreadPool {
 public:
  // ranks: pools of as many threads that work at the same time on this machine, this one included.
  explicit ThreadPool(int threads, int ranks = 1);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;
  // Whether all ranks have more threads than processors: waits then give way at once.
  bool crowded() const;

  // Calls body(item, worker) once for every item in [0, items), on any worker, and returns when all are done. Items are
  // claimed one by one, so a worker that loses its processor for a while delays one item only. Only one thread
  // may call this at a time. body must not throw.
  template <typename Body>
  void forEach(int64_t items, Body&& body) {
    using Function = std::remove_reference_t<Body>;
    const auto call = [](void* context, int64_t item, int worker) { (*static_cast<Function*>(context))(item, worker); };
    run(items, call, const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, int64_t item, int worker);
  void run(int64_t items, Call call, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shardspeed
