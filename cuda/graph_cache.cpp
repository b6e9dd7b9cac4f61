#include "cuda/graph_cache.h"

#include <algorithm>

#include "cuda/error.h"

namespace shardspeed::cuda {

GraphCache::~GraphCache() {
  for (const Entry& entry : entries_)
    if (entry.graph) cudaGraphExecDestroy(entry.graph);
}

bool GraphCache::run(const Form& form, const Stream& stream, const std::function<bool()>& body) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.form == form; });
  if (found == entries_.end()) {
    if (!body()) return false;
    entries_.push_front({form, nullptr});
    if (entries_.size() > kMostForms) {
      // What it did last may still be under way.
      stream.wait("a step");
      if (entries_.back().graph) cudaGraphExecDestroy(entries_.back().graph);
      entries_.pop_back();
    }
    return true;
  }
  entries_.splice(entries_.begin(), entries_, found);
  if (!found->graph && !capture(*found, stream, body)) return false;
  check(cudaGraphLaunch(found->graph, stream.get()), "launching a captured step");
  return true;
}

bool GraphCache::capture(Entry& entry, const Stream& stream, const std::function<bool()>& body) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "capturing a step");
  bool finished = false;
  try {
    finished = body();
  } catch (...) {
    if (cudaStreamEndCapture(stream.get(), &graph) == cudaSuccess) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream.get(), &graph), "capturing a step");
  const cudaError_t status = finished ? cudaGraphInstantiate(&entry.graph, graph, 0) : cudaSuccess;
  cudaGraphDestroy(graph);
  check(status, "preparing a captured step");
  return finished;
}

}  // namespace shardspeed::cuda
