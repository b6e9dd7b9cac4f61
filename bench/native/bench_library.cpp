#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "bench.h"
#include "cuda/cublaslt.h"
#include "cuda/projection.h"
#include "cuda/prompt_classes.h"
#include "product_cases.h"

// cuBLASLt where it is installed: what it takes for the products of prompts, by the algorithm of each class, and
// whether a row has the same bits at any number of rows, on which the use of one algorithm for all of them rests.

namespace shardspeed::bench {

namespace {

constexpr size_t kWorkspaceBytes = 32 << 20;  // as the engine gives it

// One case as the engine hands it to the library: without norm and activation, which are passes of their own.
class LibraryProduct {
 public:
  LibraryProduct(const Bench& bench, cuda::CublasLt& library, const ProductCase& wanted, int64_t rows)
      : library_(library), out_(wanted.outFeatures), stride_(cuda::padTo(wanted.outFeatures, cuda::kColumnStep)) {
    const DType dtype = bench.options().dtype;
    const int64_t columns = cuda::padTo(wanted.inFeatures, cuda::kColumnStep);
    const auto weights = static_cast<size_t>(cuda::padTo(wanted.outFeatures, cuda::kRowStep) * columns);
    const int copies = bench.rotationFor(static_cast<double>(weights) * 2);
    for (int i = 0; i < copies; ++i) weights_.push_back(randomElements(dtype, weights, 0.02f));
    in_ = randomElements(dtype, static_cast<size_t>(rows * columns), 1);
    shape_.dtype = dtype;
    shape_.outFeatures = wanted.outFeatures;
    shape_.inFeatures = shape_.weightStride = shape_.inStride = columns;
    shape_.outStride = stride_;
    shape_.wideOut = shape_.accumulate = wanted.residual;
    outBytes_ = static_cast<size_t>(rows * stride_) * (wanted.residual ? 4 : 2);
    result_ = cuda::DeviceMemory(outBytes_, "products of the library");
  }

  // From now on with the algorithm for so many rows. False where there is none.
  bool plan(int64_t rows) {
    shape_.plannedRows = rows;
    return library_.prepare(shape_);
  }
  int copies() const { return static_cast<int>(weights_.size()); }

  bool run(int64_t rows, int copy, cudaStream_t stream) {
    cuda::MatmulOperands operands;
    operands.rows = rows;
    operands.weight = weights_[static_cast<size_t>(copy)].as();
    operands.in = in_.as();
    operands.out = result_.as();
    try {
      return library_.matmul(shape_, operands, stream);
    } catch (const Error& error) {
      // Of this number alone: a finding here, where an engine has to end.
      if (std::string(error.what()).find("refuses") == std::string::npos) throw;
      return false;
    }
  }

  // The results of `rows` rows, from zeros; empty where the library refuses this number.
  std::vector<uint8_t> bits(int64_t rows) {
    cuda::check(cudaMemset(result_.as(), 0, outBytes_), "cudaMemset");
    if (!run(rows, 0, nullptr)) return {};
    std::vector<uint8_t> bytes(static_cast<size_t>(rows * stride_) * (shape_.wideOut ? 4 : 2));
    cuda::check(cudaMemcpy(bytes.data(), result_.as(), bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return bytes;
  }

 private:
  cuda::CublasLt& library_;
  cuda::MatmulShape shape_;
  int64_t out_, stride_;
  size_t outBytes_ = 0;
  std::vector<cuda::DeviceMemory> weights_;
  cuda::DeviceMemory in_, result_;
};

struct OpenLibrary {
  explicit OpenLibrary(Bench& bench, const char* task) : workspace(kWorkspaceBytes, "cuBLASLt") {
    std::string whyNot;
    library = cuda::CublasLt::open(workspace.as(), kWorkspaceBytes, &whyNot);
    if (library)
      bench.note("cuBLASLt " + std::to_string(library->version()));
    else
      bench.note(std::string("cuBLASLt: not ") + task + ", " + whyNot);
  }
  cuda::DeviceMemory workspace;
  std::unique_ptr<cuda::CublasLt> library;
};

// The numbers of rows that algorithms are planned for.
std::vector<int64_t> plans() {
  std::vector<int64_t> rows;
  for (const cuda::PromptClass& promptClass : cuda::kPromptClasses)
    if (promptClass.plannedRows > 0) rows.push_back(promptClass.plannedRows);
  return rows;
}

std::vector<ProductCase> promptProducts(const ModelShape& model) {
  std::vector<ProductCase> cases = productCases(model);
  std::erase_if(cases, [](const ProductCase& wanted) { return wanted.logits; });
  return cases;
}

}  // namespace

void measureLibrary(Bench& bench) {
  std::vector<int64_t> rowCounts{64, 256, 512, 2048};
  if (bench.options().quick) rowCounts = {256, 2048};
  if (bench.options().smoke) rowCounts = {70};
  if (!bench.options().rows.empty()) rowCounts = bench.options().rows;
  const OpenLibrary open(bench, "measured");
  if (!open.library) return;
  for (const ModelShape& model : bench.models())
    for (const ProductCase& wanted : promptProducts(model)) {
      LibraryProduct product(bench, *open.library, wanted, *std::max_element(rowCounts.begin(), rowCounts.end()));
      for (const int64_t planned : plans())
        for (const int64_t rows : rowCounts) {
          const std::string shape = std::to_string(rows) + " rows, planned for " + std::to_string(planned);
          if (!product.plan(planned) || !product.run(rows, 0, nullptr)) {
            bench.note(wanted.kernel + ", " + shape + ": cuBLASLt refuses");
            continue;
          }
          const double microseconds =
              bench.measure(product.copies(), [&](cudaStream_t stream, int copy) { product.run(rows, copy, stream); });
          Figure figure{"library", wanted.kernel, model.name, shape, microseconds};
          const auto features = static_cast<double>(wanted.outFeatures), in = static_cast<double>(wanted.inFeatures);
          figure.bytes =
              features * in * 2 + static_cast<double>(rows) * (in * 2 + features * (wanted.residual ? 8 : 2));
          figure.operations = 2 * static_cast<double>(rows) * features * in;
          bench.add(figure);
        }
    }
}

static void verifyPlan(Bench& bench, LibraryProduct& product, const std::string& name,
                       const std::vector<int64_t>& rowCounts) {
  const std::vector<uint8_t> most = product.bits(rowCounts.back());
  int same = 0;
  for (const int64_t rows : rowCounts) {
    const std::vector<uint8_t> fewer = product.bits(rows);
    if (fewer.empty())
      bench.fail(name + ": refuses " + std::to_string(rows) + " rows");
    else if (!most.empty() && !std::equal(fewer.begin(), fewer.end(), most.begin()))
      bench.fail(name + ": " + std::to_string(rows) + " rows have other bits than among " +
                 std::to_string(rowCounts.back()));
    else
      ++same;
  }
  bench.note(name + ": same bits at " + std::to_string(same) + " of " + std::to_string(rowCounts.size()) +
             " numbers of rows");
}

void verifyLibrary(Bench& bench) {
  std::vector<int64_t> rowCounts{1, 17, 64, 65, 100, 511, 2048};
  if (bench.options().smoke) rowCounts = {1, 9, 70};
  const OpenLibrary open(bench, "checked");
  if (!open.library) return;
  for (const ModelShape& model : bench.models())
    for (const ProductCase& wanted : promptProducts(model)) {
      LibraryProduct product(bench, *open.library, wanted, rowCounts.back());
      for (const int64_t planned : plans()) {
        const std::string name = std::string("cuBLASLt, ") + model.name + " " + wanted.kernel + ", planned for " +
                                 std::to_string(planned) + " rows";
        if (product.plan(planned))
          verifyPlan(bench, product, name, rowCounts);
        else
          bench.note(name + ": no algorithm, our kernels are used");
      }
    }
}

}  // namespace shardspeed::bench
