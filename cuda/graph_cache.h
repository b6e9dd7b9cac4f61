#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <list>

#include "cuda/memory.h"

namespace shardspeed::cuda {

// Captured steps, one for each form. A form's first step runs as it is, which loads the kernels; its second is
// captured; from then on it is replayed. The forms least recently used go where there are too many.
// Where a step cannot be captured, for want of memory say, all run as they are from then on; or an error says so, where
// other ranks capture the same step and have to agree.
class GraphCache {
 public:
  struct Form {
    int64_t rows;
    int64_t items;          // of attention
    int choice = 0;         // how tokens are chosen within the step
    bool advances = false;  // begins with tokens that were chosen behind another step
    bool operator==(const Form&) const = default;
  };

  ~GraphCache();
  // A step that cannot be captured is an error from now on.
  void requireCapture() { required_ = true; }
  // Runs body on the stream, or what it did for this form. False where body returned false.
  bool run(const Form& form, const Stream& stream, const std::function<bool()>& body);

 private:
  static constexpr size_t kMostForms = 48;
  struct Entry {
    Form form;
    cudaGraphExec_t graph;  // null: seen once
  };
  // False where it could not be.
  bool capture(Entry& entry, const Stream& stream, const std::function<bool()>& body);

  bool required_ = false;
  bool disabled_ = false;
  std::list<Entry> entries_;  // last used first
};

}  // namespace shardspeed::cuda
