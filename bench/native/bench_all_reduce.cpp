#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench.h"
#include "comm/thread_group.h"
#include "cuda/collectives.h"
#include "timing.h"

// Sums over ranks as a step of a divided model has them, with bias, residual sum and the next norm: what one costs when
// they follow each other in a graph, as long as nobody is late. Ranks are threads with a device each, where there are
// as many; else streams of one device, which shows what the protocol costs without a link.

namespace shardspeed::bench {

namespace {

// Ranks that share a device wait for each other there, which loading a kernel when it is first used may do as well.
// Read when CUDA starts.
const int loadedEagerly = setenv("CUDA_MODULE_LOADING", "EAGER", 0);
// Of two streams in one queue of the hardware, of which there are eight unless told otherwise, the second waits for the
// first.
const int queuesApart = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);

struct Message {
  int64_t rows;
  int64_t cols;
};

struct Way {
  const char* name;
  const char* pushBytes;
  const char* nccl;
};

// The environment, while this lives: ranks read it when they meet.
class Switch {
 public:
  Switch(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Switch() { unsetenv(name_); }
  Switch(const Switch&) = delete;
  Switch& operator=(const Switch&) = delete;

 private:
  const char* name_;
};

int deviceCount() {
  int count = 0;
  cuda::check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  return count;
}

// Microseconds of each message's sum on this rank.
std::vector<double> measureRank(Group& group, int device, const std::vector<Message>& messages, bool smoke,
                                DType dtype) {
  cuda::check(cudaSetDevice(device), "cudaSetDevice");
  GroupShapes shapes{0, 0, 1, std::vector<int64_t>(static_cast<size_t>(group.size()), 64)};
  for (const Message& message : messages) {
    shapes.maxRows = std::max(shapes.maxRows, message.rows);
    shapes.hiddenSize = std::max(shapes.hiddenSize, message.cols);
  }
  const cuda::Stream stream;
  cuda::Collectives collectives(device, group, shapes, DType::kF32, stream);
  const auto floats = static_cast<size_t>(shapes.maxRows * shapes.hiddenSize);
  const cuda::DeviceMemory x = randomFloats(floats, 1), vector = randomFloats(floats, 1), narrow(floats * 2, "rows");
  const cuda::NormParams norm{NormKind::kRms, 1e-5f, vector.as<float>(), nullptr};
  const int calls = smoke ? 2 : 200;
  std::vector<double> times;
  for (const Message& message : messages) {
    cuda::RankSum sum;
    sum.dtype = dtype;
    sum.rows = message.rows;
    sum.cols = sum.stride = message.cols;
    sum.in = collectives.partial();
    sum.bias = vector.as<float>();
    sum.x = x.as<float>();
    sum.residual = true;
    sum.next = &norm;
    sum.narrow = narrow.as();
    sum.stream = stream.get();
    collectives.sum(sum);  // what the first call sets up
    stream.wait("a sum over ranks");
    CapturedGraph graph(stream.get(), [&] {
      for (int i = 0; i < calls; ++i) collectives.sum(sum);
    });
    std::vector<double> repeats;
    TimingEvent start, end;
    for (int repeat = 0; repeat < (smoke ? 1 : 9); ++repeat) {
      group.exchange({});
      graph.launch(stream.get());  // brings the ranks into step
      start.record(stream.get());
      graph.launch(stream.get());
      end.record(stream.get());
      repeats.push_back(end.microsecondsSince(start) / calls);
    }
    std::nth_element(repeats.begin(), repeats.begin() + static_cast<int64_t>(repeats.size() / 2), repeats.end());
    times.push_back(repeats[repeats.size() / 2]);
    group.check();
  }
  collectives.stop();
  return times;
}

// By rank 0; throws what any rank threw.
std::vector<double> measureWay(int ranks, const std::vector<int>& devices, const std::vector<Message>& messages,
                               bool smoke, DType dtype) {
  const auto groups = makeThreadGroup(ranks);
  std::vector<double> times;
  std::vector<std::exception_ptr> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      Group& group = *groups[static_cast<size_t>(rank)];
      try {
        std::vector<double> own = measureRank(group, devices[static_cast<size_t>(rank)], messages, smoke, dtype);
        if (rank == 0) times = std::move(own);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
        group.fail(error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
  return times;
}

}  // namespace

void measureAllReduce(Bench& bench) {
  const bool smoke = bench.options().smoke;
  const int count = deviceCount();
  // 4 KB to 1 MB of fp32.
  std::vector<Message> messages{{1, 1024}, {1, 4096}, {4, 4096}, {16, 4096}, {64, 4096}};
  if (bench.options().quick) messages = {{1, 4096}, {16, 4096}};
  if (smoke) messages = {{1, 128}, {3, 128}};
  if (loadedEagerly != 0 || queuesApart != 0) bench.note("The environment of CUDA could not be set.");
  std::vector<int> groups{2, 4, 8};
  if (smoke) groups = {2};
  for (const int ranks : groups) {
    const bool apart = count >= ranks;
    if (!apart && ranks > 4) continue;  // on one device their kernels would be in each other's way
    std::vector<int> devices(static_cast<size_t>(ranks));
    for (int rank = 0; apart && rank < ranks; ++rank) devices[static_cast<size_t>(rank)] = rank;
    for (const Way& way : {Way{"pushed", "67108864", "0"}, Way{"NCCL", "0", "1"}}) {
      const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", way.pushBytes), nccl("SHARDSPEED_CUDA_NCCL", way.nccl);
      try {
        const std::vector<double> times = measureWay(ranks, devices, messages, smoke, bench.options().dtype);
        for (size_t i = 0; i < messages.size(); ++i) {
          const Message& message = messages[i];
          const auto bytes = static_cast<double>(message.rows * message.cols * 4);
          Figure figure{"allreduce", way.name, std::to_string(ranks) + (apart ? " devices" : " streams"),
                        std::to_string(message.rows) + " x " + std::to_string(message.cols) + ", " +
                            std::to_string(static_cast<int>(bytes / 1024)) + " KB",
                        times[i]};
          bench.add(figure);
        }
      } catch (const std::runtime_error& error) {
        // Not every machine has a link, or the library.
        bench.note(std::string(way.name) + ", " + std::to_string(ranks) + " ranks: not measured, " + error.what());
      }
    }
  }
  cuda::check(cudaSetDevice(0), "cudaSetDevice");
}

}  // namespace shardspeed::bench
