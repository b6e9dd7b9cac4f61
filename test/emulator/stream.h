#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "engine.h"
#include "runtime_types.h"

// Streams hold work until somebody waits for it, so that what a program does not wait for has not happened yet when it
// looks. Captured work goes to a graph instead.

struct CUgraph_st;

namespace emulator {

using StreamPointer = std::shared_ptr<CUstream_st>;

// A place in a stream: the first `number` operations.
struct Mark {
  StreamPointer stream;
  uint64_t number;
};

// Whose memory work touches: that of kernels and copies, that of a function of the user's, or the runtime's alone.
enum class Touches { kMemory, kHost, kNothing };

struct Operation {
  std::shared_ptr<Grid> grid;         // a launch, or else
  std::function<cudaError_t()> work;  // something else; neither: only waits for `after`
  std::vector<Mark> after;            // in other streams
  Touches touches = Touches::kMemory;
  std::shared_ptr<char> enqueued{};  // for ThreadSanitizer: what came before it
};

// A sequence being captured from one stream or several.
struct Capture {
  cudaStreamCaptureMode mode;
  CUstream_st* origin;
  std::thread::id thread;
  bool invalidated = false;
  std::vector<Operation> operations;
  // How much of what each stream captured is known to come before the end of each stream.
  std::map<CUstream_st*, std::map<CUstream_st*, uint64_t>> known;
};

}  // namespace emulator

struct CUstream_st : std::enable_shared_from_this<CUstream_st> {
  int device = 0;
  int number = 0;          // for reports
  bool legacy = false;     // the default stream
  bool blocking = false;   // waits for the default stream and is waited for by it
  bool destroyed = false;  // stays until its work is done
  bool begun = false;      // the first operation is a kernel in progress
  uint64_t enqueued = 0, done = 0;
  std::deque<emulator::Operation> queue;
  std::shared_ptr<emulator::Capture> capture;
  void* context = nullptr;  // contexts.h
  char doneTag = 0;

  CUstream_st() = default;
  ~CUstream_st();
};

struct CUevent_st {
  int device = 0;
  unsigned flags = 0;
  bool recorded = false;
  emulator::Mark mark;
  std::shared_ptr<double> milliseconds;  // when it happened
  std::shared_ptr<emulator::Capture> capture;
  std::map<CUstream_st*, uint64_t> known;  // where it was recorded while capturing
};

namespace emulator {

// Null for what is no stream (any more). 0 and cudaStreamLegacy are the current device's default stream.
StreamPointer findStream(cudaStream_t stream);
// Adds work, to the graph if the stream is being captured.
cudaError_t enqueue(const StreamPointer& stream, Operation operation);
cudaError_t finishStream(const StreamPointer& stream);
cudaError_t finishDevice(int device);
// In the order in which they were made, destroyed ones that still have work among them.
const std::vector<StreamPointer>& allStreams();
std::string nameOf(const CUstream_st& stream);
// For calls that are not allowed while any stream is captured (unless the capture is relaxed): cudaSuccess if none is.
// Otherwise the capture is lost.
cudaError_t refuseWhileCapturing();
// All that is on a device, and the device's events and graphs with it.
void forgetStreams(int device);
void forgetAllStreams();
void forgetEvents(int device);
void forgetGraphs(int device);
// A fault if something was written beside an allocation.
cudaError_t checkMemory();
inline bool isCapturing(const StreamPointer& stream) {
  return stream->capture != nullptr;
}

}  // namespace emulator
