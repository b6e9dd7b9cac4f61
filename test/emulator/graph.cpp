#include <set>

#include "runtime.h"
#include "runtime_api.h"
#include "stream.h"

// Graphs: what was captured, in the order in which it was captured, which is one that its dependencies allow.

struct CUgraph_st {
  int device;
  std::vector<emulator::Operation> operations;
};
struct CUgraphExec_st {
  int device;
  std::vector<emulator::Operation> operations;
};

namespace emulator {
namespace {

auto& graphs = *new std::set<cudaGraph_t>;
auto& executables = *new std::set<cudaGraphExec_t>;

// Every stream that took part must have been waited for by the one where the capture began.
bool isJoined(const Capture& capture) {
  const auto known = capture.known.find(capture.origin);
  for (const auto& [stream, theirs] : capture.known) {
    const auto own = theirs.find(stream);
    if (stream == capture.origin || own == theirs.end()) continue;
    if (known == capture.known.end()) return false;
    const auto seen = known->second.find(stream);
    if (seen == known->second.end() || seen->second < own->second) return false;
  }
  return true;
}

cudaError_t endCapture(const StreamPointer& stream, cudaGraph_t* graph) {
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return cudaErrorStreamCaptureWrongThread;
  if (capture->origin != stream.get()) {
    capture->invalidated = true;
    return cudaErrorStreamCaptureUnmatched;
  }
  for (const auto& [other, known] : capture->known)
    if (const StreamPointer found = findStream(other); found != nullptr && found->capture == capture)
      found->capture = nullptr;
  stream->capture = nullptr;
  *graph = nullptr;
  if (capture->invalidated) return cudaErrorStreamCaptureInvalidated;
  if (!isJoined(*capture)) return cudaErrorStreamCaptureUnjoined;
  *graph = new CUgraph_st{stream->device, capture->operations};
  graphs.insert(*graph);
  return cudaSuccess;
}

}  // namespace

void forgetGraphs(int device) {
  const auto isOnDevice = [=](const auto graph) {
    if (graph->device != device) return false;
    delete graph;
    return true;
  };
  std::erase_if(graphs, isOnDevice);
  std::erase_if(executables, isOnDevice);
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    return endCapture(stream, graph);
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return call(__func__, [&] {
    if (executable == nullptr || !graphs.contains(graph)) return cudaErrorInvalidValue;
    *executable = new CUgraphExec_st{graph->device, graph->operations};
    executables.insert(*executable);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) {
  return call(__func__, [&] {
    return executables.contains(executable) && findStream(stream) != nullptr ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  return call(__func__, [&] {
    const StreamPointer stream = findStream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (!executables.contains(executable)) return cudaErrorInvalidValue;
    for (const Operation& captured : executable->operations) {
      Operation operation = captured;
      if (captured.grid != nullptr) operation.grid = std::make_shared<Grid>(*captured.grid);
      if (const cudaError_t status = enqueue(stream, std::move(operation)); status != cudaSuccess) return status;
    }
    return cudaSuccess;
  });
}

// What was launched of it goes on.
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return call(__func__, [&] {
    if (executables.erase(executable) == 0) return cudaErrorInvalidValue;
    delete executable;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return call(__func__, [&] {
    if (graphs.erase(graph) == 0) return cudaErrorInvalidValue;
    delete graph;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  return call(__func__, [&] {
    if (!graphs.contains(graph) || nodes != nullptr) return cudaErrorInvalidValue;
    *count = graph->operations.size();
    return cudaSuccess;
  });
}
