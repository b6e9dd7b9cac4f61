#pragma once

#include <string>
#include <vector>

// NVIDIA's libraries that are opened where they are installed.

namespace shardspeed::cuda {

// CUDA 13 and 12. What we call is in libcublasLt.so.11 as well, but that knows neither sm_100 nor sm_120 and is no
// longer maintained.
inline constexpr const char* kCublasLtNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
// It has no other name since 2017, whatever CUDA it was made for.
inline constexpr const char* kNcclName = "libnccl.so.2";

struct LibraryReport {
  std::string name;     // "cuBLASLt", "NCCL"
  std::string path;     // the file that the dynamic loader found; empty: none
  std::string version;  // "13.1.0"
  std::string problem;  // what the dynamic loader said; empty: found
};

// Opens them, for reports. Never throws.
std::vector<LibraryReport> findLibraries();

}  // namespace shardspeed::cuda
