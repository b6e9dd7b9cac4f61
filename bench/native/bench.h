#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cuda/error.h"
#include "cuda/memory.h"
#include "shapes.h"

// What the parts of the benchmark share: options, device memory with numbers in it, timing, and the report.

namespace shardspeed::bench {

struct Options {
  bool smoke = false;              // tiny shapes, one repeat: that it runs at all
  bool quick = false;              // fewer shapes and repeats
  std::string json;                // file to write, empty = none
  std::string only;                // parts to run, comma-separated, empty = all
  std::string models;              // whose shapes, by name, comma-separated, empty = all
  std::string kernels;             // of part projection, likewise
  std::vector<int64_t> rows;       // of parts projection and library, empty = what each part measures by itself
  std::vector<int64_t> sequences;  // of parts decode and model, likewise
  DType dtype = DType::kF16;
};

struct DeviceFacts {
  std::string name;
  int multiprocessors = 0;
  int64_t l2Bytes = 0;
  int64_t memoryBytes = 0;
};

// One line of the report. What is 0 does not apply.
struct Figure {
  std::string part;    // "projection", "model" and so on
  std::string kernel;  // what was measured
  std::string model;   // whose shape it is, may be empty
  std::string shape;
  double microseconds = 0;
  double bytes = 0;            // of device memory that one call must read and write
  double operations = 0;       // floating-point operations of one call
  double tokensPerSecond = 0;  // of whole models
};

class Bench {
 public:
  explicit Bench(const Options& options);

  const Options& options() const { return options_; }
  const DeviceFacts& device() const { return device_; }
  bool wants(const std::string& part) const;
  bool wantsKernel(const std::string& kernel) const;
  // The models whose shapes are wanted.
  std::vector<ModelShape> models() const;
  // Prints the line; the first of a part comes with the part's heading.
  void add(const Figure& figure);
  // A line about what was not measured, and why. It goes into the file too.
  void note(const std::string& text);
  void setCopyBandwidth(double bytesPerSecond) { copyBandwidth_ = bytesPerSecond; }
  void setReadBandwidth(double bytesPerSecond) { readBandwidth_ = bytesPerSecond; }
  // A check that failed; printed, kept, and counted.
  void fail(const std::string& text);
  int failures() const { return static_cast<int>(failures_.size()); }
  // Throws where the file cannot be written.
  void writeJson() const;

  // Microseconds of one call. work(stream, i) enqueues one call that uses the i-th of `rotation` sets of memory, and is
  // captured into a graph: calls of all sets, again and again until they take some milliseconds. The median of several
  // replays, timed by events.
  double measure(int rotation, const std::function<void(cudaStream_t, int)>& work);

  // How many sets of so many bytes are needed for none of them to be in the L2 cache when its turn comes: together more
  // than twice the cache. Not more than fit into the memory that is free.
  int rotationFor(double bytesOfOne) const;
  static size_t freeBytes();

 private:
  Options options_;
  DeviceFacts device_;
  cuda::Stream stream_;
  double copyBandwidth_ = 0;
  double readBandwidth_ = 0;
  std::string lastPart_;
  std::vector<Figure> figures_;
  std::vector<std::string> notes_;
  std::vector<std::string> failures_;
};

// Device memory of `count` random elements in [-scale, scale]: how much power a chip draws, and so how fast it may run,
// depends on the numbers.
cuda::DeviceMemory randomElements(DType dtype, size_t count, float scale);
cuda::DeviceMemory randomFloats(size_t count, float scale);

template <typename T>
cuda::DeviceMemory uploaded(const std::vector<T>& values) {
  cuda::DeviceMemory memory(values.size() * sizeof(T), "an array of the benchmark");
  cuda::check(cudaMemcpy(memory.as(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return memory;
}

void measureMemory(Bench& bench);
void measureProjections(Bench& bench);
void measureLibrary(Bench& bench);
void measureRows(Bench& bench);
void measureDecodeAttention(Bench& bench);
void measurePrefillAttention(Bench& bench);
void measureSampling(Bench& bench);
void measureAllReduce(Bench& bench);
void measureModels(Bench& bench);
void measurePrompts(Bench& bench);

// Real shapes: sampled outputs against fp64, and a row's bits at any number of rows. Failures are the bench's.
void verifyProducts(Bench& bench);
void verifyLibrary(Bench& bench);

}  // namespace shardspeed::bench
