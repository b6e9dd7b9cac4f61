#include "binding/convert.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "binding/object_reader.h"
#include "binding/spec.h"
#include "comm/group.h"

namespace shardspeed {

namespace {

constexpr int64_t kLargest = (int64_t{1} << 53) - 1;  // integer that JavaScript can tell from its neighbours
constexpr int64_t kMostPages = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostThreads = 1024;
constexpr int64_t kMostRows = 65535;  // of a step
constexpr int64_t kMostPort = 65535;
constexpr int64_t kLargestInt32 = std::numeric_limits<int32_t>::max();

std::vector<int64_t> integers(const ValueReader& value) {
  std::vector<int64_t> result;
  for (const ValueReader& one : value.list()) result.push_back(one.integer(0, kLargest));
  return result;
}

std::vector<WeightFile> readWeightFiles(const ValueReader& value) {
  std::vector<WeightFile> files;
  for (const ValueReader& one : value.list()) {
    ObjectReader file(one);
    std::string path = file["path"].text();
    files.push_back({std::move(path), file["bytes"].integer(0, kLargest)});
    file.finish();
  }
  return files;
}

WeightView readWeightView(const ValueReader& value, size_t files) {
  ObjectReader weight(value);
  WeightView view;
  view.role = weight["role"].text();
  view.tensor = weight["tensor"].text();
  view.dtype = readStoredDType(weight["dtype"]);
  view.file = static_cast<int32_t>(weight["file"].integer(0, static_cast<int64_t>(files) - 1));
  view.byteOffset = weight["byteOffset"].integer(0, kLargest);
  const ValueReader shape = weight["shape"], strides = weight["strides"];
  view.shape = integers(shape);
  view.strides = integers(strides);
  if (view.shape.empty()) shape.refuse("one dimension or more");
  if (view.shape.size() != view.strides.size()) strides.refuse("a number for each dimension of the shape");
  const ValueReader row = weight["firstRow"], col = weight["firstCol"];
  if (!row.absent()) view.firstRow = row.integer(0, kLargest);
  if (!col.absent()) view.firstCol = col.integer(0, kLargest);
  weight.finish();
  return view;
}

std::vector<WeightView> readWeightViews(const ValueReader& value, size_t files) {
  std::vector<WeightView> views;
  for (const ValueReader& one : value.list()) views.push_back(readWeightView(one, files));
  return views;
}

std::vector<LowRankAddition> readAdditions(const ValueReader& value, size_t files) {
  std::vector<LowRankAddition> additions;
  for (const ValueReader& one : value.list()) {
    ObjectReader object(one);
    LowRankAddition addition;
    addition.role = object["role"].text();
    addition.scale = static_cast<float>(object["scale"].number());
    addition.left = readWeightView(object["left"], files);
    addition.right = readWeightView(object["right"], files);
    const ValueReader magnitude = object["magnitude"];
    if (!magnitude.absent()) addition.magnitude = readWeightView(magnitude, files);
    object.finish();
    additions.push_back(std::move(addition));
  }
  return additions;
}

WeightPlan readWeightPlan(const ValueReader& value) {
  ObjectReader object(value);
  WeightPlan plan;
  plan.files = readWeightFiles(object["files"]);
  plan.weights = readWeightViews(object["weights"], plan.files.size());
  const ValueReader additions = object["additions"];
  if (!additions.absent()) plan.additions = readAdditions(additions, plan.files.size());
  object.finish();
  return plan;
}

LookupOptions readLookup(const ValueReader& value) {
  constexpr int64_t kMost = 1024;
  ObjectReader object(value);
  LookupOptions lookup;
  lookup.draftTokens = object["draftTokens"].integer(1, kMost);
  lookup.minMatch = object["minMatch"].integer(1, kMost);
  lookup.maxMatch = object["maxMatch"].integer(lookup.minMatch, kMost);
  object.finish();
  return lookup;
}

ProcessGroupOptions readProcessGroup(const ValueReader& value, const EngineOptions& options) {
  ObjectReader object(value);
  ProcessGroupOptions group;
  group.rank = options.firstRank;
  group.size = options.tpSize;
  group.listener = static_cast<int>(object["listener"].integer(-1, kLargestInt32));
  group.leaderHost = object["leaderHost"].text();
  group.leaderPort = static_cast<uint16_t>(object["leaderPort"].integer(0, kMostPort));
  const ValueReader key = object["key"];
  const std::vector<uint8_t> bytes = key.bytes();
  if (bytes.size() != group.key.size()) key.refuse(std::to_string(group.key.size()) + " bytes");
  std::copy(bytes.begin(), bytes.end(), group.key.begin());
  group.silenceLimitMs = object["silenceLimitMs"].integer(0, kLargestInt32);
  // All have just been heard of: one that does not connect now is as lost as one that falls silent later.
  group.connectLimitMs = group.silenceLimitMs;
  object.finish();
  return group;
}

std::string readDevice(const ValueReader& value) {
  constexpr size_t kMostDigits = 4;
  const std::string name = value.text();
  const std::string kind = "cuda:";
  const std::string index = name.rfind(kind, 0) == 0 ? name.substr(kind.size()) : "";
  const bool isIndex = !index.empty() && index.size() <= kMostDigits &&
                       std::all_of(index.begin(), index.end(), [](char digit) { return digit >= '0' && digit <= '9'; });
  if (name != "cpu" && !isIndex) value.refuse("\"cpu\", or \"cuda:\" and the index of a device");
  return name;
}

std::vector<std::string> readDevices(const ValueReader& value) {
  std::vector<std::string> devices;
  for (const ValueReader& device : value.list()) devices.push_back(readDevice(device));
  if (devices.empty() || devices.size() > kMostRanks) value.refuse("1 to " + std::to_string(kMostRanks) + " devices");
  return devices;
}

}  // namespace

static EngineOptions readRankPlan(ObjectReader& plan) {
  EngineOptions options;
  options.spec = readSpec(plan.object("spec"));
  options.dtype = readDType(plan["dtype"]);
  options.tpSize =
      static_cast<int>(plan["tpSize"].integer(1, std::min<int64_t>(kMostRanks, largestGroup(options.spec))));
  const ValueReader devices = plan["devices"];
  options.devices = readDevices(devices);
  const auto here = static_cast<int>(options.devices.size());
  if (here != 1 && here != options.tpSize) devices.refuse("one device, or one for each of tpSize ranks");
  options.firstRank = static_cast<int>(plan["firstRank"].integer(0, options.tpSize - here));
  options.threads = static_cast<int>(plan["threads"].integer(1, kMostThreads));
  options.maxSequenceTokens = plan["maxSequenceTokens"].integer(1, options.spec.maxPositions);
  options.maxBatchTokens = plan["maxBatchTokens"].integer(1, kMostRows);
  const ValueReader communication = plan["communicationDtype"];
  options.communicationDtype = readDType(communication);
  const bool onCpu = std::find(options.devices.begin(), options.devices.end(), "cpu") != options.devices.end();
  if (options.communicationDtype != DType::kF32 && (onCpu || options.communicationDtype != options.dtype))
    communication.refuse(onCpu ? "float32 on the CPU" : "float32, or the plan's dtype");
  return options;
}

EngineOptions toRankOptions(const Napi::Value& value) {
  ObjectReader plan(value, "plan");
  EngineOptions options = readRankPlan(plan);
  plan.finish();
  return options;
}

// A model to make drafts with, and how long these are.
static void readDraft(ObjectReader draft, EngineOptions& options) {
  constexpr int64_t kMost = 1024;
  options.draftTokens = draft["draftTokens"].integer(1, kMost);
  ObjectReader plan = draft.object("model");
  EngineOptions model = readRankPlan(plan);
  const ValueReader weights = plan["weights"];
  if (!weights.absent()) model.plan = readWeightPlan(weights);
  model.kvCachePages = plan["kvCachePages"].integer(1, kMostPages);
  if (model.devices != std::vector<std::string>{"cpu"} || model.tpSize != 1) draft["model"].refuse("a rank on the CPU");
  if (!makesTokens(model.spec) || model.spec.vocabSize != options.spec.vocabSize)
    draft["model"].refuse("a model that makes tokens of the same vocabulary");
  plan.finish();
  draft.finish();
  options.draftModel = std::make_shared<const EngineOptions>(std::move(model));
}

EngineOptions toEngineOptions(const Napi::Value& value) {
  ObjectReader plan(value, "plan");
  EngineOptions options = readRankPlan(plan);
  if (seesLater(options.spec) && options.maxBatchTokens < options.maxSequenceTokens)
    plan["maxBatchTokens"].refuse("maxSequenceTokens or more, where tokens see later ones");
  const ValueReader weights = plan["weights"], group = plan["group"];
  if (!weights.absent()) options.plan = readWeightPlan(weights);
  if (!group.absent()) options.processes = readProcessGroup(group, options);
  if (static_cast<int>(options.devices.size()) != (options.processes ? 1 : options.tpSize))
    group.refuse(options.processes ? "null where this process has several ranks" : "how this process meets the others");
  options.kvCachePages = plan["kvCachePages"].integer(0, kMostPages);
  if (const ValueReader lookup = plan["lookup"]; !lookup.absent()) options.lookup = readLookup(lookup);
  options.prefixCache = plan["prefixCache"].flag();
  if (const ValueReader draft = plan["draft"]; !draft.absent()) readDraft(ObjectReader(draft), options);
  options.weighsDrafts = plan["weighsDrafts"].flag();
  plan.finish();
  return options;
}

WritePlan toWritePlan(const Napi::Value& value) {
  ObjectReader object(value, "plan");
  WritePlan plan;
  plan.path = object["path"].text();
  const std::vector<uint8_t> header = object["header"].bytes();
  plan.header.assign(header.begin(), header.end());
  plan.files = readWeightFiles(object["files"]);
  for (const ValueReader& one : object["tensors"].list()) {
    ObjectReader tensor(one);
    WrittenTensor& written = plan.tensors.emplace_back();
    written.rows = tensor["rows"].integer(0, kLargest);
    written.cols = tensor["cols"].integer(0, kLargest);
    written.dtype = readDType(tensor["dtype"]);
    written.views = readWeightViews(tensor["views"], plan.files.size());
    tensor.finish();
  }
  object.finish();
  return plan;
}

}  // namespace shardspeed
