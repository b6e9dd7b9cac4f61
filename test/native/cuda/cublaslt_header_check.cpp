// Holds cuda/cublaslt_api.h against the real header. There is nothing to run: it compiles, or it does not. Where
// cublasLt.h is not on the include path (wheel nvidia-cublas, folder nvidia/cu13/include; it needs the toolkit's own
// headers beside it), this file is empty.

#if __has_include(<cublasLt.h>) && !defined(SHARDSPEED_CUDA_EMULATOR)

#include <cublasLt.h>

#include <type_traits>

#include "cuda/cublaslt_api.h"

namespace shardspeed::cuda {

namespace {

// Our stand-ins for the library's opaque and plain structs.
template <typename Ours, typename Theirs>
inline constexpr bool kStandsFor = false;
template <>
inline constexpr bool kStandsFor<LtContext, std::remove_pointer_t<cublasLtHandle_t>> = true;
template <>
inline constexpr bool kStandsFor<LtLayout, std::remove_pointer_t<cublasLtMatrixLayout_t>> = true;
template <>
inline constexpr bool kStandsFor<LtDesc, std::remove_pointer_t<cublasLtMatmulDesc_t>> = true;
template <>
inline constexpr bool kStandsFor<LtPreference, std::remove_pointer_t<cublasLtMatmulPreference_t>> = true;
template <>
inline constexpr bool kStandsFor<LtAlgorithm, cublasLtMatmulAlgo_t> = true;
template <>
inline constexpr bool kStandsFor<LtHeuristic, cublasLtMatmulHeuristicResult_t> = true;
// Enumerations: each for one of theirs.
template <>
inline constexpr bool kStandsFor<LtStatus, cublasStatus_t> = true;
template <>
inline constexpr bool kStandsFor<LtDataType, cudaDataType> = true;
template <>
inline constexpr bool kStandsFor<LtComputeType, cublasComputeType_t> = true;
template <>
inline constexpr bool kStandsFor<LtOperation, cublasOperation_t> = true;
template <>
inline constexpr bool kStandsFor<LtLayoutAttribute, cublasLtMatrixLayoutAttribute_t> = true;
template <>
inline constexpr bool kStandsFor<LtDescAttribute, cublasLtMatmulDescAttributes_t> = true;
template <>
inline constexpr bool kStandsFor<LtEpilogue, cublasLtEpilogue_t> = true;
template <>
inline constexpr bool kStandsFor<LtPreferenceAttribute, cublasLtMatmulPreferenceAttributes_t> = true;
template <>
inline constexpr bool kStandsFor<LtAlgorithmAttribute, cublasLtMatmulAlgoConfigAttributes_t> = true;

// The same type, but for stand-ins; const must agree at every level.
template <typename Ours, typename Theirs>
struct Agree : std::bool_constant<std::is_same_v<Ours, Theirs> || kStandsFor<Ours, Theirs>> {};
template <typename Ours, typename Theirs>
struct Agree<const Ours, const Theirs> : Agree<Ours, Theirs> {};
template <typename Ours, typename Theirs>
struct Agree<Ours*, Theirs*> : Agree<Ours, Theirs> {};
template <typename OurResult, typename... Ours, typename TheirResult, typename... Theirs>
requires(sizeof...(Ours) == sizeof...(Theirs)) struct Agree<OurResult(Ours...), TheirResult(Theirs...)>
    : std::bool_constant<Agree<OurResult, TheirResult>::value && (Agree<Ours, Theirs>::value && ...)> {
};

template <auto Member>
struct FunctionOf;
template <typename Function, Function* CublasLtApi::*Member>
struct FunctionOf<Member> {
  using Type = Function;
};

template <auto Member, typename Theirs>
constexpr bool kSameFunction = Agree<typename FunctionOf<Member>::Type, Theirs>::value;

static_assert(kSameFunction<&CublasLtApi::create, decltype(cublasLtCreate)>);
static_assert(kSameFunction<&CublasLtApi::destroy, decltype(cublasLtDestroy)>);
static_assert(kSameFunction<&CublasLtApi::getVersion, decltype(cublasLtGetVersion)>);
static_assert(kSameFunction<&CublasLtApi::getStatusName, decltype(cublasLtGetStatusName)>);
static_assert(kSameFunction<&CublasLtApi::layoutCreate, decltype(cublasLtMatrixLayoutCreate)>);
static_assert(kSameFunction<&CublasLtApi::layoutDestroy, decltype(cublasLtMatrixLayoutDestroy)>);
static_assert(kSameFunction<&CublasLtApi::layoutSetAttribute, decltype(cublasLtMatrixLayoutSetAttribute)>);
static_assert(kSameFunction<&CublasLtApi::descCreate, decltype(cublasLtMatmulDescCreate)>);
static_assert(kSameFunction<&CublasLtApi::descDestroy, decltype(cublasLtMatmulDescDestroy)>);
static_assert(kSameFunction<&CublasLtApi::descSetAttribute, decltype(cublasLtMatmulDescSetAttribute)>);
static_assert(kSameFunction<&CublasLtApi::preferenceCreate, decltype(cublasLtMatmulPreferenceCreate)>);
static_assert(kSameFunction<&CublasLtApi::preferenceDestroy, decltype(cublasLtMatmulPreferenceDestroy)>);
static_assert(kSameFunction<&CublasLtApi::preferenceSetAttribute, decltype(cublasLtMatmulPreferenceSetAttribute)>);
static_assert(kSameFunction<&CublasLtApi::getHeuristic, decltype(cublasLtMatmulAlgoGetHeuristic)>);
static_assert(kSameFunction<&CublasLtApi::checkAlgorithm, decltype(cublasLtMatmulAlgoCheck)>);
static_assert(kSameFunction<&CublasLtApi::algorithmGetAttribute, decltype(cublasLtMatmulAlgoConfigGetAttribute)>);
static_assert(kSameFunction<&CublasLtApi::matmul, decltype(cublasLtMatmul)>);
// The check itself can fail.
static_assert(!kSameFunction<&CublasLtApi::create, decltype(cublasLtDestroy)>);
static_assert(!kSameFunction<&CublasLtApi::layoutDestroy, decltype(cublasLtMatmulDescDestroy)>);

template <typename Ours, typename Theirs>
constexpr bool sameValue(Ours ours, Theirs theirs) {
  return kStandsFor<Ours, Theirs> && sizeof(Ours) == sizeof(Theirs) &&
         static_cast<int64_t>(ours) == static_cast<int64_t>(theirs);
}

static_assert(sameValue(LtStatus::kSuccess, CUBLAS_STATUS_SUCCESS));
static_assert(sameValue(LtStatus::kAllocFailed, CUBLAS_STATUS_ALLOC_FAILED));
static_assert(sameValue(LtStatus::kArchMismatch, CUBLAS_STATUS_ARCH_MISMATCH));
static_assert(sameValue(LtStatus::kInvalidValue, CUBLAS_STATUS_INVALID_VALUE));
static_assert(sameValue(LtStatus::kNotSupported, CUBLAS_STATUS_NOT_SUPPORTED));
static_assert(sameValue(LtDataType::kF32, CUDA_R_32F));
static_assert(sameValue(LtDataType::kF16, CUDA_R_16F));
static_assert(sameValue(LtDataType::kBF16, CUDA_R_16BF));
static_assert(sameValue(LtComputeType::kF32, CUBLAS_COMPUTE_32F));
static_assert(sameValue(LtOperation::kNone, CUBLAS_OP_N));
static_assert(sameValue(LtOperation::kTranspose, CUBLAS_OP_T));
static_assert(sameValue(LtLayoutAttribute::kRows, CUBLASLT_MATRIX_LAYOUT_ROWS));
static_assert(sameValue(LtLayoutAttribute::kCols, CUBLASLT_MATRIX_LAYOUT_COLS));
static_assert(sameValue(LtLayoutAttribute::kStride, CUBLASLT_MATRIX_LAYOUT_LD));
static_assert(sameValue(LtDescAttribute::kTransposeA, CUBLASLT_MATMUL_DESC_TRANSA));
static_assert(sameValue(LtDescAttribute::kTransposeB, CUBLASLT_MATMUL_DESC_TRANSB));
static_assert(sameValue(LtDescAttribute::kEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE));
static_assert(sameValue(LtDescAttribute::kBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER));
static_assert(sameValue(LtEpilogue::kDefault, CUBLASLT_EPILOGUE_DEFAULT));
static_assert(sameValue(LtEpilogue::kBias, CUBLASLT_EPILOGUE_BIAS));
static_assert(sameValue(LtPreferenceAttribute::kMostWorkspaceBytes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES));
static_assert(sameValue(LtPreferenceAttribute::kReductionSchemeMask, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK));
static_assert(sameValue(LtPreferenceAttribute::kAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES));
static_assert(sameValue(LtPreferenceAttribute::kAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES));
static_assert(sameValue(LtPreferenceAttribute::kAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES));
static_assert(sameValue(LtPreferenceAttribute::kAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES));
static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0);
static_assert(sameValue(LtAlgorithmAttribute::kSplits, CUBLASLT_ALGO_CONFIG_SPLITK_NUM));

static_assert(sizeof(LtAlgorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(alignof(LtAlgorithm) == alignof(cublasLtMatmulAlgo_t));
static_assert(sizeof(LtHeuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(LtHeuristic, algorithm) == offsetof(cublasLtMatmulHeuristicResult_t, algo));
static_assert(offsetof(LtHeuristic, workspaceBytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(LtHeuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(LtHeuristic, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

}  // namespace

}  // namespace shardspeed::cuda

#endif
