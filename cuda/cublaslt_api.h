#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// The part of cuBLASLt's C interface that we call, declared here so that neither its header nor the library is needed
// to build. It is the same in CUDA 12 and 13, since the library makes its descriptors itself: only their sizes have
// changed. test/native/cuda/cublaslt_header_check.cpp holds it against the real header wherever that is at hand. What
// the functions mean: cuBLAS documentation, "Using the cuBLASLt API".

namespace shardspeed::cuda {

enum class LtStatus : int32_t {
  kSuccess = 0,
  kAllocFailed = 3,
  kInvalidValue = 7,
  kArchMismatch = 8,
  kNotSupported = 15,
};
enum class LtDataType : int32_t { kF32 = 0, kF16 = 2, kBF16 = 14 };
enum class LtComputeType : int32_t { kF32 = 68 };
enum class LtOperation : int32_t { kNone = 0, kTranspose = 1 };
enum class LtLayoutAttribute : int32_t { kRows = 2, kCols = 3, kStride = 4 };  // uint64, uint64, int64
enum class LtDescAttribute : int32_t {
  kTransposeA = 3,   // LtOperation
  kTransposeB = 4,   // LtOperation
  kEpilogue = 7,     // LtEpilogue
  kBiasPointer = 8,  // const void*
};
enum class LtEpilogue : uint32_t { kDefault = 1, kBias = 4 };
enum class LtPreferenceAttribute : int32_t {
  kMostWorkspaceBytes = 1,   // uint64
  kReductionSchemeMask = 3,  // uint32; 0 = the sum over k is not split
  kAlignmentA = 5,           // uint32 bytes, as the three below
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8,
};

enum class LtAlgorithmAttribute : int32_t {
  kSplits = 2,  // uint32: of the sum over k
};

struct LtContext;  // opaque
struct LtLayout;
struct LtDesc;
struct LtPreference;

struct LtAlgorithm {
  uint64_t data[8];
};
struct LtHeuristic {
  LtAlgorithm algorithm;
  size_t workspaceBytes;
  LtStatus state;
  float waves;
  int reserved[4];
};

// The library's functions; a test supplies its own.
struct CublasLtApi {
  LtStatus (*create)(LtContext** handle);
  LtStatus (*destroy)(LtContext* handle);
  size_t (*getVersion)();
  const char* (*getStatusName)(LtStatus status);
  LtStatus (*layoutCreate)(LtLayout** layout, LtDataType type, uint64_t rows, uint64_t cols, int64_t stride);
  LtStatus (*layoutDestroy)(LtLayout* layout);
  LtStatus (*layoutSetAttribute)(LtLayout* layout, LtLayoutAttribute attribute, const void* value, size_t bytes);
  LtStatus (*descCreate)(LtDesc** desc, LtComputeType compute, LtDataType scale);
  LtStatus (*descDestroy)(LtDesc* desc);
  LtStatus (*descSetAttribute)(LtDesc* desc, LtDescAttribute attribute, const void* value, size_t bytes);
  LtStatus (*preferenceCreate)(LtPreference** preference);
  LtStatus (*preferenceDestroy)(LtPreference* preference);
  LtStatus (*preferenceSetAttribute)(LtPreference* preference, LtPreferenceAttribute attribute, const void* value,
                                     size_t bytes);
  LtStatus (*getHeuristic)(LtContext* handle, LtDesc* desc, LtLayout* a, LtLayout* b, LtLayout* c, LtLayout* d,
                           LtPreference* preference, int wanted, LtHeuristic results[], int* found);
  // Whether an algorithm fits; result is filled.
  LtStatus (*checkAlgorithm)(LtContext* handle, LtDesc* desc, LtLayout* a, LtLayout* b, LtLayout* c, LtLayout* d,
                             const LtAlgorithm* algorithm, LtHeuristic* result);
  LtStatus (*algorithmGetAttribute)(const LtAlgorithm* algorithm, LtAlgorithmAttribute attribute, void* value,
                                    size_t bytes, size_t* written);
  LtStatus (*matmul)(LtContext* handle, LtDesc* desc, const void* alpha, const void* a, LtLayout* aLayout,
                     const void* b, LtLayout* bLayout, const void* beta, const void* c, LtLayout* cLayout, void* d,
                     LtLayout* dLayout, const LtAlgorithm* algorithm, void* workspace, size_t workspaceBytes,
                     cudaStream_t stream);
};

}  // namespace shardspeed::cuda
