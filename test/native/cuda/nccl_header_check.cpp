// Holds cuda/nccl_api.h against the real header. There is nothing to run: it compiles, or it does not. Where nccl.h is
// not on the include path (wheel nvidia-nccl-cu13; it needs the toolkit's own headers beside it), this file is empty.

#if __has_include(<nccl.h>) && !defined(SHARDSPEED_CUDA_EMULATOR)

#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "cuda/nccl_api.h"

namespace shardspeed::cuda {

namespace {

// Our stand-ins for the library's structs and enumerations.
template <typename Ours, typename Theirs>
inline constexpr bool kNcclStandsFor = false;
template <>
inline constexpr bool kNcclStandsFor<NcclComm, std::remove_pointer_t<ncclComm_t>> = true;
template <>
inline constexpr bool kNcclStandsFor<NcclId, ncclUniqueId> = true;
template <>
inline constexpr bool kNcclStandsFor<NcclConfig, ncclConfig_t> = true;
template <>
inline constexpr bool kNcclStandsFor<NcclStatus, ncclResult_t> = true;
template <>
inline constexpr bool kNcclStandsFor<NcclType, ncclDataType_t> = true;

// The same type, but for stand-ins; const must agree at every level.
template <typename Ours, typename Theirs>
struct NcclAgree : std::bool_constant<std::is_same_v<Ours, Theirs> || kNcclStandsFor<Ours, Theirs>> {};
template <typename Ours, typename Theirs>
struct NcclAgree<const Ours, const Theirs> : NcclAgree<Ours, Theirs> {};
template <typename Ours, typename Theirs>
struct NcclAgree<Ours*, Theirs*> : NcclAgree<Ours, Theirs> {};
template <typename OurResult, typename... Ours, typename TheirResult, typename... Theirs>
requires(sizeof...(Ours) == sizeof...(Theirs)) struct NcclAgree<OurResult(Ours...), TheirResult(Theirs...)>
    : std::bool_constant<NcclAgree<OurResult, TheirResult>::value && (NcclAgree<Ours, Theirs>::value && ...)> {
};

template <auto Member>
struct NcclFunctionOf;
template <typename Function, Function* NcclApi::*Member>
struct NcclFunctionOf<Member> {
  using Type = Function;
};
template <auto Member, typename Theirs>
constexpr bool kSameNcclFunction = NcclAgree<typename NcclFunctionOf<Member>::Type, Theirs>::value;

static_assert(kSameNcclFunction<&NcclApi::getVersion, decltype(ncclGetVersion)>);
static_assert(kSameNcclFunction<&NcclApi::getUniqueId, decltype(ncclGetUniqueId)>);
static_assert(kSameNcclFunction<&NcclApi::initRank, decltype(ncclCommInitRankConfig)>);
static_assert(kSameNcclFunction<&NcclApi::getAsyncError, decltype(ncclCommGetAsyncError)>);
static_assert(kSameNcclFunction<&NcclApi::abort, decltype(ncclCommAbort)>);
static_assert(kSameNcclFunction<&NcclApi::getErrorString, decltype(ncclGetErrorString)>);
static_assert(kSameNcclFunction<&NcclApi::getLastError, decltype(ncclGetLastError)>);
static_assert(kSameNcclFunction<&NcclApi::groupStart, decltype(ncclGroupStart)>);
static_assert(kSameNcclFunction<&NcclApi::groupEnd, decltype(ncclGroupEnd)>);
static_assert(kSameNcclFunction<&NcclApi::send, decltype(ncclSend)>);
static_assert(kSameNcclFunction<&NcclApi::receive, decltype(ncclRecv)>);
static_assert(kSameNcclFunction<&NcclApi::allGather, decltype(ncclAllGather)>);
// The check itself can fail.
static_assert(!kSameNcclFunction<&NcclApi::send, decltype(ncclRecv)>);
static_assert(!kSameNcclFunction<&NcclApi::groupStart, decltype(ncclGetVersion)>);

template <typename Ours, typename Theirs>
constexpr bool sameNcclValue(Ours ours, Theirs theirs) {
  return kNcclStandsFor<Ours, Theirs> && sizeof(Ours) == sizeof(Theirs) &&
         static_cast<int64_t>(ours) == static_cast<int64_t>(theirs);
}
static_assert(sameNcclValue(NcclStatus::kSuccess, ncclSuccess));
static_assert(sameNcclValue(NcclStatus::kInProgress, ncclInProgress));
static_assert(sameNcclValue(NcclType::kF16, ncclFloat16));
static_assert(sameNcclValue(NcclType::kF32, ncclFloat32));
static_assert(sameNcclValue(NcclType::kBF16, ncclBfloat16));
static_assert(kNcclUnset == NCCL_CONFIG_UNDEF_INT);

static_assert(sizeof(NcclId) == sizeof(ncclUniqueId) && alignof(NcclId) == alignof(ncclUniqueId));

// Theirs has grown, at its end.
static_assert(sizeof(NcclConfig) <= sizeof(ncclConfig_t) && alignof(NcclConfig) == alignof(ncclConfig_t));
static_assert(offsetof(NcclConfig, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(NcclConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(NcclConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(NcclConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(NcclConfig, clusterSize) == offsetof(ncclConfig_t, cgaClusterSize));
static_assert(offsetof(NcclConfig, leastBlocks) == offsetof(ncclConfig_t, minCTAs));
static_assert(offsetof(NcclConfig, mostBlocks) == offsetof(ncclConfig_t, maxCTAs));
static_assert(offsetof(NcclConfig, network) == offsetof(ncclConfig_t, netName));
static_assert(offsetof(NcclConfig, splitShare) == offsetof(ncclConfig_t, splitShare));
constexpr ncclConfig_t kTheirs = NCCL_CONFIG_INITIALIZER;
constexpr NcclConfig kOurs;
static_assert(kOurs.magic == kTheirs.magic && kOurs.version <= kTheirs.version && kOurs.blocking == kTheirs.blocking &&
              kOurs.clusterSize == kTheirs.cgaClusterSize && kOurs.leastBlocks == kTheirs.minCTAs &&
              kOurs.mostBlocks == kTheirs.maxCTAs && kOurs.network == kTheirs.netName &&
              kOurs.splitShare == kTheirs.splitShare);
static_assert(kOurs.version == NCCL_VERSION(2, 18, 0));

}  // namespace

}  // namespace shardspeed::cuda

#endif
