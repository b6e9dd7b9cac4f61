#include <algorithm>
#include <string>

#include "bench.h"
#include "cuda/error.h"
#include "read_memory.h"

// What the device's memory can do at all, which everything else is compared with: a copy by cudaMemcpy and a plain
// read.

namespace shardspeed::bench {

void measureMemory(Bench& bench) {
  const size_t wanted = size_t{1} << (bench.options().smoke ? 16 : 30);
  const size_t bytes = std::min(wanted, Bench::freeBytes() / 4 & ~size_t{4095});
  const cuda::DeviceMemory from = randomFloats(bytes / sizeof(float), 1);
  const cuda::DeviceMemory to(bytes, "the copy's destination");
  const std::string shape = std::to_string(bytes >> 20) + " MiB";

  const auto total = static_cast<double>(bytes);
  const double copy = bench.measure(1, [&](cudaStream_t stream, int) {
    cuda::check(cudaMemcpyAsync(to.as(), from.as(), bytes, cudaMemcpyDeviceToDevice, stream), "cudaMemcpyAsync");
  });
  if (copy > 0) bench.setCopyBandwidth(2 * total / copy * 1e6);
  bench.add({"memory", "copy", "", shape, copy, 2 * total});

  const cuda::DeviceMemory sink(sizeof(uint32_t), "the read's sink");
  const double read = bench.measure(1, [&](cudaStream_t stream, int) {
    readMemory(from.as(), bytes, sink.as<uint32_t>(), bench.device().multiprocessors, stream);
  });
  if (read > 0) bench.setReadBandwidth(total / read * 1e6);
  bench.add({"memory", "read", "", shape, read, total});
}

}  // namespace shardspeed::bench
