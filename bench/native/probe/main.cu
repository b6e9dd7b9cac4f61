#include "probe.h"

int main() {
  cudaDeviceProp properties{};
  probe::check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  if (properties.major != 9) {
    std::printf("not run: %s has compute capability %d.%d, wgmma is of 9.0 alone\n", properties.name, properties.major,
                properties.minor);
    return 0;
  }
  std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
  const bool right = probe::compareBits();
  std::fflush(stdout);
  probe::measureRings();
  return right ? 0 : 1;
}
