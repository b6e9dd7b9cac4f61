#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/dtype.h"
#include "cuda/cublaslt_api.h"

// Products with many rows by NVIDIA's cuBLASLt, where it is installed: out = in W^T, with fp32 sums.

namespace shardspeed::cuda {

// What a product looks like, but for the number of its rows; what an algorithm is chosen for.
struct MatmulShape {
  DType dtype = DType::kF16;  // T: of weight and in
  int64_t outFeatures = 0;    // rows of the weight
  int64_t inFeatures = 0;     // columns of the weight and of in; with padding where both are padded by zeros
  int64_t weightStride = 0;   // in elements, as the next two
  int64_t inStride = 0;
  int64_t outStride = 0;
  bool wideOut = false;     // out is fp32 instead of T
  bool accumulate = false;  // out += instead of out =
  bool bias = false;        // (outFeatures) in the type of out, added to every row
  // The number of rows for which the algorithm is chosen; it serves any number. One algorithm adds up a row in one
  // order, whatever the number of rows, so products that must give a row the same bits share this number.
  int64_t plannedRows = 2048;

  auto operator<=>(const MatmulShape&) const = default;
};

struct MatmulOperands {
  int64_t rows = 0;
  const void* weight = nullptr;  // all aligned to 16 bytes
  const void* in = nullptr;
  const void* bias = nullptr;  // null exactly where the shape has none
  void* out = nullptr;
};

// For tests: what open() finds instead of the library; null = the library again. For emulated devices.
void replaceCublasLt(const CublasLtApi* api);

// One device's; calls come from one thread. Nothing here waits for the device.
class CublasLt {
 public:
  // Null where the library is not installed or does not start; whyNot then says what was tried. The workspace is device
  // memory of the caller (aligned to 256 bytes, 32 MiB are recommended for sm_90), used by every product.
  static std::unique_ptr<CublasLt> open(void* workspace, size_t workspaceBytes, std::string* whyNot);
  // As open(), with these functions. Throws ERR_CUDA.
  CublasLt(const CublasLtApi& api, void* workspace, size_t workspaceBytes);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  size_t version() const { return api_.getVersion(); }  // such as 130100
  // Chooses the algorithm: one that takes few rows and many, by the same order of sums. False where there is none, so
  // that another kernel is needed, for any number of rows: which kernel computes a row must not depend on how many come
  // with it. Later calls find it at once.
  bool prepare(const MatmulShape& shape);
  // Of shapes that have algorithms: whether these are one, so that rows of both are one product.
  bool sameAlgorithm(const MatmulShape& a, const MatmulShape& b);
  // False where no algorithm fits: nothing has been launched then. Throws ERR_CUDA, also where the library refuses a
  // number of rows after all: another kernel for these alone would give them other bits than among others. A product
  // that a graph captures must have run once before, since the library loads a kernel when it is first used.
  bool matmul(const MatmulShape& shape, const MatmulOperands& operands, cudaStream_t stream);

 private:
  struct Plan;
  const Plan& planOf(const MatmulShape& shape);
  std::unique_ptr<Plan> makePlan(const MatmulShape& shape);
  void chooseAlgorithm(Plan& plan);
  void setRows(const Plan& plan, int64_t rows);
  bool takesAnyRows(Plan& plan, const LtAlgorithm& algorithm);
  void check(LtStatus status, const char* operation) const;

  CublasLtApi api_;
  LtContext* handle_ = nullptr;
  void* workspace_;
  size_t workspaceBytes_;
  std::map<MatmulShape, std::unique_ptr<Plan>> plans_;
};

}  // namespace shardspeed::cuda
