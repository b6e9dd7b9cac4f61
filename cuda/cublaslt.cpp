#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <atomic>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "cuda/libraries.h"

// cuBLASLt thinks in columns. A row-major matrix (rows, cols) with a row stride is, read column by column, its
// transpose (cols, rows) with that stride as leading dimension. So
//
//   out (rows, N) row-major      is D, (N, rows) column-major, leading dimension outStride
//   in  (rows, K) row-major      is B, (K, rows) column-major, leading dimension inStride, taken as it is
//   W   (N, K)    row-major      is A, (K, N) column-major, leading dimension weightStride, taken transposed
//
// and D = A^T B is out^T = W in^T. C is D itself: beta = 1 adds to what is there. The bias of the epilogue has one
// element for each row of D, which is an output feature. A transposed and B not is the form for which tensor cores need
// no rearranging: both operands lie along k.

namespace shardspeed::cuda {

namespace {

constexpr uint32_t kAlignment = 16;  // bytes, of every operand
// Numbers of rows that an algorithm must take: what tiles of any usual size divide, and what they do not.
constexpr int64_t kProbedRows[] = {1, 2, 7, 8, 9, 17, 32, 64, 65, 100, 127, 128, 129, 256, 511, 512, 1000, 2048, 8192};

std::atomic<const CublasLtApi*> replacement{nullptr};

// Statuses that say that another kernel is needed, and nothing of a fault.
bool isRefusal(LtStatus status) {
  return status == LtStatus::kNotSupported || status == LtStatus::kInvalidValue || status == LtStatus::kArchMismatch ||
         status == LtStatus::kAllocFailed;
}

bool aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
}

template <typename Function>
bool find(void* library, const char* symbol, Function*& function, std::string& missing) {
  function = reinterpret_cast<Function*>(dlsym(library, symbol));
  if (function == nullptr) missing = symbol;
  return function != nullptr;
}

// The functions of a loaded library. False where one is missing, and its name.
bool bind(void* library, CublasLtApi& api, std::string& missing) {
  return find(library, "cublasLtCreate", api.create, missing) &&
         find(library, "cublasLtDestroy", api.destroy, missing) &&
         find(library, "cublasLtGetVersion", api.getVersion, missing) &&
         find(library, "cublasLtGetStatusName", api.getStatusName, missing) &&
         find(library, "cublasLtMatrixLayoutCreate", api.layoutCreate, missing) &&
         find(library, "cublasLtMatrixLayoutDestroy", api.layoutDestroy, missing) &&
         find(library, "cublasLtMatrixLayoutSetAttribute", api.layoutSetAttribute, missing) &&
         find(library, "cublasLtMatmulDescCreate", api.descCreate, missing) &&
         find(library, "cublasLtMatmulDescDestroy", api.descDestroy, missing) &&
         find(library, "cublasLtMatmulDescSetAttribute", api.descSetAttribute, missing) &&
         find(library, "cublasLtMatmulPreferenceCreate", api.preferenceCreate, missing) &&
         find(library, "cublasLtMatmulPreferenceDestroy", api.preferenceDestroy, missing) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", api.preferenceSetAttribute, missing) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", api.getHeuristic, missing) &&
         find(library, "cublasLtMatmulAlgoCheck", api.checkAlgorithm, missing) &&
         find(library, "cublasLtMatmulAlgoConfigGetAttribute", api.algorithmGetAttribute, missing) &&
         find(library, "cublasLtMatmul", api.matmul, missing);
}

template <typename Value>
LtStatus set(const CublasLtApi& api, LtLayout* layout, LtLayoutAttribute attribute, const Value& value) {
  return api.layoutSetAttribute(layout, attribute, &value, sizeof value);
}
template <typename Value>
LtStatus set(const CublasLtApi& api, LtDesc* desc, LtDescAttribute attribute, const Value& value) {
  return api.descSetAttribute(desc, attribute, &value, sizeof value);
}
template <typename Value>
LtStatus set(const CublasLtApi& api, LtPreference* preference, LtPreferenceAttribute attribute, const Value& value) {
  return api.preferenceSetAttribute(preference, attribute, &value, sizeof value);
}

}  // namespace

// The library's descriptions of a product. The layouts' number of columns and the bias are set anew for each product.
struct CublasLt::Plan {
  explicit Plan(const CublasLtApi& functions) : api(functions) {}
  ~Plan() {
    if (desc != nullptr) api.descDestroy(desc);
    for (LtLayout* layout : {weight, in, out})
      if (layout != nullptr) api.layoutDestroy(layout);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const CublasLtApi& api;
  LtDesc* desc = nullptr;
  LtLayout* weight = nullptr;  // A
  LtLayout* in = nullptr;      // B
  LtLayout* out = nullptr;     // C and D
  LtAlgorithm algorithm{};
  bool usable = false;
};

void replaceCublasLt(const CublasLtApi* api) {
  replacement = api;
}

std::unique_ptr<CublasLt> CublasLt::open(void* workspace, size_t workspaceBytes, std::string* whyNot) {
  if (const CublasLtApi* api = replacement.load()) return std::make_unique<CublasLt>(*api, workspace, workspaceBytes);
  std::string tried;
  const auto failed = [&](const std::string& why) { tried += (tried.empty() ? "" : "; ") + why; };
  for (const char* name : kCublasLtNames) {
    // Never closed: the library keeps state with the driver that does not outlive its code well.
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = dlerror();
      failed(why != nullptr ? why : std::string(name) + ": not found");  // dlerror names the library
      continue;
    }
    CublasLtApi api{};
    std::string missing;
    if (!bind(library, api, missing)) {
      failed(std::string(name) + ": has no " + missing);
      continue;
    }
    try {
      return std::make_unique<CublasLt>(api, workspace, workspaceBytes);
    } catch (const Error& error) {
      failed(std::string(name) + ": " + error.what());
    }
  }
  if (whyNot != nullptr) *whyNot = tried;
  return nullptr;
}

CublasLt::CublasLt(const CublasLtApi& api, void* workspace, size_t workspaceBytes)
    : api_(api), workspace_(workspace), workspaceBytes_(workspaceBytes) {
  check(api_.create(&handle_), "cublasLtCreate");
}

CublasLt::~CublasLt() {
  plans_.clear();
  api_.destroy(handle_);
}

void CublasLt::check(LtStatus status, const char* operation) const {
  if (status == LtStatus::kSuccess) return;
  const char* name = api_.getStatusName(status);
  throw Error("ERR_CUDA", std::string(operation) + ": " +
                              (name != nullptr ? name : "status " + std::to_string(static_cast<int>(status))));
}

bool CublasLt::prepare(const MatmulShape& shape) {
  return planOf(shape).usable;
}

bool CublasLt::sameAlgorithm(const MatmulShape& a, const MatmulShape& b) {
  const Plan &one = planOf(a), &other = planOf(b);
  return one.usable && other.usable && std::memcmp(&one.algorithm, &other.algorithm, sizeof one.algorithm) == 0;
}

const CublasLt::Plan& CublasLt::planOf(const MatmulShape& shape) {
  const auto known = plans_.find(shape);
  if (known != plans_.end()) return *known->second;
  return *plans_.emplace(shape, makePlan(shape)).first->second;
}

std::unique_ptr<CublasLt::Plan> CublasLt::makePlan(const MatmulShape& shape) {
  auto plan = std::make_unique<Plan>(api_);
  const auto element = shape.dtype == DType::kF16 ? LtDataType::kF16 : LtDataType::kBF16;
  const auto outType = shape.wideOut ? LtDataType::kF32 : element;
  const auto n = static_cast<uint64_t>(shape.outFeatures), k = static_cast<uint64_t>(shape.inFeatures);
  const auto rows = static_cast<uint64_t>(shape.plannedRows);
  check(api_.layoutCreate(&plan->weight, element, k, n, shape.weightStride), "cublasLtMatrixLayoutCreate");
  check(api_.layoutCreate(&plan->in, element, k, rows, shape.inStride), "cublasLtMatrixLayoutCreate");
  check(api_.layoutCreate(&plan->out, outType, n, rows, shape.outStride), "cublasLtMatrixLayoutCreate");
  check(api_.descCreate(&plan->desc, LtComputeType::kF32, LtDataType::kF32), "cublasLtMatmulDescCreate");
  check(set(api_, plan->desc, LtDescAttribute::kTransposeA, LtOperation::kTranspose), "cublasLtMatmulDescSetAttribute");
  check(set(api_, plan->desc, LtDescAttribute::kTransposeB, LtOperation::kNone), "cublasLtMatmulDescSetAttribute");
  check(set(api_, plan->desc, LtDescAttribute::kEpilogue, shape.bias ? LtEpilogue::kBias : LtEpilogue::kDefault),
        "cublasLtMatmulDescSetAttribute");
  if (shape.bias) {
    // The heuristic does not read it, but asks the address for its alignment.
    const void* bias = reinterpret_cast<const void*>(uintptr_t{kAlignment});
    check(set(api_, plan->desc, LtDescAttribute::kBiasPointer, bias), "cublasLtMatmulDescSetAttribute");
  }
  chooseAlgorithm(*plan);
  return plan;
}

void CublasLt::setRows(const Plan& plan, int64_t rows) {
  const auto count = static_cast<uint64_t>(rows);
  check(set(api_, plan.in, LtLayoutAttribute::kCols, count), "cublasLtMatrixLayoutSetAttribute");
  check(set(api_, plan.out, LtLayoutAttribute::kCols, count), "cublasLtMatrixLayoutSetAttribute");
}

// Asked of the library on the host alone. Split sums were not to be proposed; what is proposed is looked at all the
// same, since a row's bits rest on it.
bool CublasLt::takesAnyRows(Plan& plan, const LtAlgorithm& algorithm) {
  uint32_t splits = 0;
  size_t written = 0;
  check(api_.algorithmGetAttribute(&algorithm, LtAlgorithmAttribute::kSplits, &splits, sizeof splits, &written),
        "cublasLtMatmulAlgoConfigGetAttribute");
  if (splits > 1) return false;
  for (const int64_t rows : kProbedRows) {
    setRows(plan, rows);
    LtHeuristic result{};
    const LtStatus status =
        api_.checkAlgorithm(handle_, plan.desc, plan.weight, plan.in, plan.out, plan.out, &algorithm, &result);
    if (isRefusal(status) || isRefusal(result.state) || result.workspaceBytes > workspaceBytes_) return false;
    check(status, "cublasLtMatmulAlgoCheck");
  }
  return true;
}

void CublasLt::chooseAlgorithm(Plan& plan) {
  LtPreference* raw = nullptr;
  check(api_.preferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const std::unique_ptr<LtPreference, LtStatus (*)(LtPreference*)> preference(raw, api_.preferenceDestroy);
  const auto prefer = [&](LtPreferenceAttribute attribute, const auto& value) {
    check(set(api_, raw, attribute, value), "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(LtPreferenceAttribute::kMostWorkspaceBytes, uint64_t{workspaceBytes_});
  // Sums over k are not split among blocks: the order of addition would depend on how many there are.
  prefer(LtPreferenceAttribute::kReductionSchemeMask, uint32_t{0});
  for (const auto attribute : {LtPreferenceAttribute::kAlignmentA, LtPreferenceAttribute::kAlignmentB,
                               LtPreferenceAttribute::kAlignmentC, LtPreferenceAttribute::kAlignmentD})
    prefer(attribute, kAlignment);
  constexpr int kWanted = 8;
  LtHeuristic results[kWanted] = {};
  int found = 0;
  const LtStatus status =
      api_.getHeuristic(handle_, plan.desc, plan.weight, plan.in, plan.out, plan.out, raw, kWanted, results, &found);
  if (isRefusal(status)) return;
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  for (int i = 0; i < found && i < kWanted; ++i) {  // the quickest first
    if (results[i].state != LtStatus::kSuccess || results[i].workspaceBytes > workspaceBytes_) continue;
    if (!takesAnyRows(plan, results[i].algorithm)) continue;
    plan.algorithm = results[i].algorithm;
    plan.usable = true;
    return;
  }
}

bool CublasLt::matmul(const MatmulShape& shape, const MatmulOperands& operands, cudaStream_t stream) {
  const Plan& plan = planOf(shape);
  if (!plan.usable || shape.bias != (operands.bias != nullptr)) return false;
  if (!aligned(operands.weight) || !aligned(operands.in) || !aligned(operands.out) || !aligned(operands.bias))
    return false;
  if (operands.rows == 0) return true;
  setRows(plan, operands.rows);
  if (shape.bias)
    check(set(api_, plan.desc, LtDescAttribute::kBiasPointer, operands.bias), "cublasLtMatmulDescSetAttribute");
  const float alpha = 1, beta = shape.accumulate ? 1.0f : 0.0f;
  const LtStatus status =
      api_.matmul(handle_, plan.desc, &alpha, operands.weight, plan.weight, operands.in, plan.in, &beta, operands.out,
                  plan.out, operands.out, plan.out, &plan.algorithm, workspace_, workspaceBytes_, stream);
  // Found before anything is launched.
  if (isRefusal(status))
    throw Error("ERR_CUDA", "cuBLASLt took a product of " + std::to_string(shape.outFeatures) + " x " +
                                std::to_string(shape.inFeatures) + " and refuses " + std::to_string(operands.rows) +
                                " rows of it. SHARDSPEED_CUDA_GEMM=own in the environment does without the library.");
  check(status, "cublasLtMatmul");
  return true;
}

}  // namespace shardspeed::cuda
