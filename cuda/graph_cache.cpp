#include "cuda/graph_cache.h"

#include <algorithm>
#include <exception>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

GraphCache::~GraphCache() {
  for (const Entry& entry : entries_)
    if (entry.graph) cudaGraphExecDestroy(entry.graph);
}

bool GraphCache::run(const Form& form, const Stream& stream, const std::function<bool()>& body) {
  if (disabled_) return body();
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
  if (!found->graph && !capture(*found, stream, body)) {
    disabled_ = true;
    return body();
  }
  check(cudaGraphLaunch(found->graph, stream.get()), "launching a captured step");
  return true;
}

bool GraphCache::capture(Entry& entry, const Stream& stream, const std::function<bool()>& body) {
  cudaGraph_t graph = nullptr;
  cudaError_t status = cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal);
  bool finished = false;
  std::exception_ptr ended;
  if (status == cudaSuccess) {
    try {
      finished = body();
    } catch (const Error&) {
      // What is really wrong shows when the step runs as it is.
      if (required_) ended = std::current_exception();
    } catch (...) {
      ended = std::current_exception();
    }
    status = cudaStreamEndCapture(stream.get(), &graph);
  }
  if (status == cudaSuccess && finished) status = cudaGraphInstantiate(&entry.graph, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  if (status == cudaSuccess && finished) return true;
  entry.graph = nullptr;
  cudaGetLastError();  // not to be found by the next call
  if (ended) std::rethrow_exception(ended);
  if (required_) check(status, "capturing a step, as all ranks have to");
  return false;
}

}  // namespace shardspeed::cuda
