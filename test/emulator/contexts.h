#pragma once

#include "stream.h"

// What ThreadSanitizer takes for a thread. The work of a stream has a context of its own, whichever host thread does
// it: it comes after what the stream did before, what was done before it was enqueued, and what it waits for, but not
// after anything that a host thread happened to do or see in between. So what is not ordered by events, flags or
// waiting is seen as a race even where it did not overlap. Nothing happens here without ThreadSanitizer.

namespace emulator {

// A context that nothing comes before.
void* makeContext();
void destroyContext(void* context);

// The calling host thread does the stream's work as long as this lives. Only for what touches memory of kernels or of
// the user: the runtime's own is ordered by its lock, which contexts know nothing of.
class OnStream {
 public:
  explicit OnStream(CUstream_st& stream);
  ~OnStream();
  OnStream(const OnStream&) = delete;
  OnStream& operator=(const OnStream&) = delete;

 private:
  void* former_ = nullptr;
};

// What follows in the stream comes after what was there when the operation was enqueued, and after what it waits for.
// On the stream.
void comeAfter(const Operation& operation);
// On the host thread: what follows comes after what the stream has done.
void comeAfter(CUstream_st& stream);

}  // namespace emulator
