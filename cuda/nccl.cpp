#include "cuda/nccl.h"

#include <dlfcn.h>

#include <atomic>

#include "base/error.h"
#include "base/spin.h"
#include "cuda/libraries.h"

namespace shardspeed::cuda {

namespace {

constexpr int kLeastVersion = 21800;  // what NcclConfig is of

template <typename Function>
bool find(void* library, const char* symbol, Function*& function, std::string& missing) {
  function = reinterpret_cast<Function*>(dlsym(library, symbol));
  if (function == nullptr) missing = symbol;
  return function != nullptr;
}

// False where one is missing, and its name.
bool bind(void* library, NcclApi& api, std::string& missing) {
  return find(library, "ncclGetVersion", api.getVersion, missing) &&
         find(library, "ncclGetUniqueId", api.getUniqueId, missing) &&
         find(library, "ncclCommInitRankConfig", api.initRank, missing) &&
         find(library, "ncclCommGetAsyncError", api.getAsyncError, missing) &&
         find(library, "ncclCommAbort", api.abort, missing) &&
         find(library, "ncclGetErrorString", api.getErrorString, missing) &&
         find(library, "ncclGetLastError", api.getLastError, missing) &&
         find(library, "ncclGroupStart", api.groupStart, missing) &&
         find(library, "ncclGroupEnd", api.groupEnd, missing) && find(library, "ncclSend", api.send, missing) &&
         find(library, "ncclRecv", api.receive, missing) && find(library, "ncclAllGather", api.allGather, missing);
}

struct Library {
  NcclApi api{};
  bool usable = false;
  std::string whyNot;

  Library() {
    // Never closed: it has threads of its own.
    void* library = dlopen(kNcclName, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = dlerror();
      whyNot = why != nullptr ? why : std::string(kNcclName) + ": not found";
      return;
    }
    std::string missing;
    if (!bind(library, api, missing)) {
      whyNot = std::string(kNcclName) + ": has no " + missing;
      return;
    }
    const int version = ncclVersion(api);
    usable = version >= kLeastVersion;
    if (!usable) whyNot = std::string(kNcclName) + ": is of version " + std::to_string(version) + ", 2.18 is needed";
  }
};

std::atomic<const NcclApi*> replacement{nullptr};

std::string wordsFor(const NcclApi& api, NcclStatus status, NcclComm* comm) {
  const char* name = api.getErrorString(status);
  std::string words = name != nullptr ? name : "status " + std::to_string(static_cast<int>(status));
  const char* last = api.getLastError(comm);
  if (last != nullptr && *last != '\0') words += std::string(" (") + last + ")";
  return words;
}

bool isFailure(NcclStatus status) {
  return status != NcclStatus::kSuccess && status != NcclStatus::kInProgress;
}

void requireSuccess(const NcclApi& api, NcclStatus status, NcclComm* comm, const char* operation) {
  if (!isFailure(status)) return;
  throw Error("ERR_COMM", std::string("NCCL, ") + operation + ": " + wordsFor(api, status, comm));
}

}  // namespace

const NcclApi* findNccl(std::string* whyNot) {
  if (const NcclApi* api = replacement.load()) return api;
  static const auto& library = *new Library;  // an engine's thread may outlive static objects
  if (whyNot != nullptr) *whyNot = library.whyNot;
  return library.usable ? &library.api : nullptr;
}

void replaceNccl(const NcclApi* api) {
  replacement = api;
}

int ncclVersion(const NcclApi& api) {
  int version = 0;
  requireSuccess(api, api.getVersion(&version), nullptr, "asking for its version");
  return version;
}

NcclId Nccl::makeId(const NcclApi& api) {
  NcclId id{};
  requireSuccess(api, api.getUniqueId(&id), nullptr, "making an id for the group");
  return id;
}

Nccl::Nccl(const NcclApi& api, const NcclId& id, const Group& group) : api_(api), group_(group) {
  NcclConfig config;
  config.blocking = 0;  // so that nothing waits in there for a rank that is gone
  try {
    check(api_.initRank(&comm_, group.size(), id, group.rank(), &config), "joining the group");
    settle("joining the group");
  } catch (...) {
    abort();
    throw;
  }
}

Nccl::~Nccl() {
  abort();
}

void Nccl::check(NcclStatus status, const char* operation) const {
  requireSuccess(api_, status, comm_, operation);
}

void Nccl::settle(const char* operation) {
  spinUntil([&] {
    if (group_.over()) return true;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) return true;
    NcclStatus status = NcclStatus::kSuccess;
    check(api_.getAsyncError(comm_, &status), operation);
    check(status, operation);
    return status == NcclStatus::kSuccess;
  });
  group_.check();
}

template <typename Body>
void Nccl::together(const char* operation, Body body) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm_ == nullptr) {
      group_.check();
      throw Error("ERR_COMM", std::string("NCCL, ") + operation + ": the group was left");
    }
    check(api_.groupStart(), operation);
    const NcclStatus status = body(comm_);
    const NcclStatus ended = api_.groupEnd();
    check(status, operation);
    check(ended, operation);
  }
  settle(operation);
}

static NcclType typeOf(DType dtype) {
  return dtype == DType::kF32 ? NcclType::kF32 : dtype == DType::kF16 ? NcclType::kF16 : NcclType::kBF16;
}

void Nccl::exchange(DType dtype, const void* from, int64_t step, void* received, int64_t count, cudaStream_t stream) {
  together("exchanging parts of a sum", [&](NcclComm* comm) {
    const auto size = static_cast<size_t>(count), elementBytes = dtypeSize(dtype);
    const NcclType type = typeOf(dtype);
    auto* to = static_cast<uint8_t*>(received);
    for (int rank = 0; rank < group_.size(); ++rank) {
      if (rank == group_.rank()) continue;
      const uint8_t* part = static_cast<const uint8_t*>(from) + static_cast<size_t>(rank * step) * elementBytes;
      NcclStatus status = api_.send(part, size, type, rank, comm, stream);
      if (!isFailure(status)) status = api_.receive(to, size, type, rank, comm, stream);
      if (isFailure(status)) return status;
      to += size * elementBytes;
    }
    return NcclStatus::kSuccess;
  });
}

void Nccl::shareParts(float* buffer, int64_t count, cudaStream_t stream) {
  together("sharing sums", [&](NcclComm* comm) {
    return api_.allGather(buffer + group_.rank() * count, buffer, static_cast<size_t>(count), NcclType::kF32, comm,
                          stream);
  });
}

void Nccl::bringToFirst(const float* from, float* const* to, const int64_t* counts, cudaStream_t stream) {
  together("gathering logits", [&](NcclComm* comm) {
    const auto count = [&](int rank) { return static_cast<size_t>(counts[rank]); };
    if (group_.rank() != 0) return api_.send(from, count(group_.rank()), NcclType::kF32, 0, comm, stream);
    NcclStatus status = NcclStatus::kSuccess;
    for (int rank = 1; rank < group_.size() && !isFailure(status); ++rank)
      status = api_.receive(to[rank], count(rank), NcclType::kF32, rank, comm, stream);
    return status;
  });
}

void Nccl::abort() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (comm_ != nullptr) api_.abort(comm_);
  comm_ = nullptr;
}

}  // namespace shardspeed::cuda
