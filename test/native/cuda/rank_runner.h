#pragma once

#include <exception>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <vector>

#include "comm/thread_group.h"
#include "cuda/model_runner.h"
#include "cuda/rank_devices.h"
#include "test_threads.h"

namespace shardspeed::test {

// How many devices there are, with one for each rank on the emulator.
inline int devicesFor(int ranks) {
  int count = ranks;
#ifdef SHARDSPEED_CUDA_EMULATOR
  emulator::setDeviceCount(ranks);
#else
  cuda::check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
#endif
  return count;
}

// What became of the ranks of a model: of each the error that it ended with, if any.
using RankErrors = std::vector<std::exception_ptr>;

// Every rank of a model in a thread of its own, on a device of its own where there are enough. body runs on all of
// them, and must compute the same steps. As an engine does: a rank that fails ends the group, and memory is given up
// when all ranks are done.
inline RankErrors tryOnRanks(TinyModel& model, int ranks, DType dtype, int64_t maxRows,
                             const std::function<void(CudaRunner&, Group&)>& body,
                             DType communicationDtype = DType::kF32) {
  const int devices = devicesFor(ranks);
  const std::vector<std::unique_ptr<Group>> groups = makeThreadGroup(ranks);
  RankErrors errors(static_cast<size_t>(ranks));
  std::latch done(ranks);
  TestThreads threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.start([&, rank] {
      Group& group = *groups[static_cast<size_t>(rank)];
      std::unique_ptr<CudaRunner> runner;
      try {
        runner =
            std::make_unique<CudaRunner>(model, dtype, maxRows, &group, rank % devices, kPages, communicationDtype);
        body(*runner, group);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
        group.fail("rank " + std::to_string(rank) + " failed: " + error.what());
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
        group.fail("rank " + std::to_string(rank) + " failed");
      }
      runChecked("finish()", [&] {
        if (runner) runner->backend->finish();
      });
      done.arrive_and_wait();
    });
  threads.join();
  return errors;
}

// Where none may fail.
inline void onRanks(TinyModel& model, int ranks, DType dtype, const std::function<void(CudaRunner&)>& body,
                    int64_t maxRows = kMostRows, DType communicationDtype = DType::kF32) {
  const RankErrors errors = tryOnRanks(
      model, ranks, dtype, maxRows, [&](CudaRunner& runner, Group&) { body(runner); }, communicationDtype);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace shardspeed::test
