#include <cmath>
#include <limits>

#include "cpu/kernels.h"
#include "kernel_sets.h"
#include "random.h"

namespace shardspeed::test {

static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Queries, and a cache of pages in shuffled order; whatever no query may see is NaN.
struct KernelCase {
  KernelCase(Random& random, int64_t dim, std::vector<int64_t> queryLimits, float deviation)
      : headDim(dim),
        dimPadded((dim + kLanes - 1) / kLanes * kLanes),
        limits(std::move(queryLimits)),
        firsts(limits.size()) {
    for (const int64_t limit : limits) longest = std::max(longest, limit);
    const int64_t used = (longest + kLanes - 1) / kLanes;
    // Twice as many pages as are used, and between them the pages of other heads, as in a real cache.
    stride = 2 * dimPadded * kLanes + kLanes;
    cache.assign(static_cast<size_t>(2 * used * stride), kNan);
    for (int64_t page = 0; page < used; ++page) pages.push_back(static_cast<int32_t>(2 * (used - 1 - page)));
    pages.push_back(1 << 30);  // an entry that nobody may follow
    for (int64_t page = 0; page < used; ++page)
      for (int64_t d = dim; d < dimPadded; ++d)
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          // Padding is zero, in keys and in values.
          keyAt(page * kLanes + lane, d) = 0;
          valueAt(page * kLanes + lane, d) = 0;
        }
    for (int64_t token = 0; token < longest; ++token)
      for (int64_t d = 0; d < dim; ++d) {
        keyAt(token, d) = random.normal(deviation);
        valueAt(token, d) = random.normal();
      }
    for (size_t q = 0; q < limits.size(); ++q) queries.push_back(random.normals(dim, deviation));
    scale = 1 / std::sqrt(static_cast<float>(dim));
  }

  float& keyAt(int64_t token, int64_t d) {
    return cache[static_cast<size_t>(pages[static_cast<size_t>(token / kLanes)] * stride + d * kLanes +
                                     token % kLanes)];
  }
  float& valueAt(int64_t token, int64_t d) {
    return cache[static_cast<size_t>(pages[static_cast<size_t>(token / kLanes)] * stride + dimPadded * kLanes +
                                     token % kLanes * dimPadded + d)];
  }

  // (count, headDim) of queries [first, first + count) in one tile.
  // With `apart`, of each range for itself, the last one first, and merged.
  std::vector<float> run(const KernelTable& kernels, int64_t first, int64_t count, bool apart = false) {
    std::vector<float> scratch(static_cast<size_t>(attentionScratch(count, dimPadded) + kLanes), kNan);
    std::vector<float> out(static_cast<size_t>(count * (headDim + 1)), -7.0f);
    PagedAttention attention;
    attention.cache = cache.data();
    attention.pageStride = stride;
    attention.pages = pages.data();
    attention.headDim = headDim;
    attention.headDimPadded = dimPadded;
    attention.scale = scale;
    attention.queries = count;
    attention.scratch = scratch.data();
    for (int64_t q = 0; q < count; ++q) {
      attention.query[q] = queries[static_cast<size_t>(first + q)].data();
      attention.firsts[q] = firsts[static_cast<size_t>(first + q)];
      attention.limits[q] = limits[static_cast<size_t>(first + q)];
      attention.out[q] = out.data() + q * (headDim + 1);
    }
    const int64_t ranges = (longest + kRangeTokens - 1) / kRangeTokens;
    attention.endRange = ranges;
    const int64_t floats = rangeFloats(count, dimPadded);
    std::vector<float> partials(static_cast<size_t>(ranges * floats + kLanes), kNan);
    for (int64_t range = ranges; apart && range-- > 0;) {
      attention.firstRange = range;
      attention.endRange = range + 1;
      attention.partials = partials.data() + range * floats;
      kernels.attend(attention);
    }
    attention.endRange = ranges;
    apart ? kernels.mergeRanges(attention) : kernels.attend(attention);
    for (int64_t i = 0; i < kLanes; ++i) CHECK(std::isnan(partials[static_cast<size_t>(ranges * floats + i)]));
    for (size_t i = scratch.size() - kLanes; i < scratch.size(); ++i) CHECK(std::isnan(scratch[i]));
    std::vector<float> result;
    for (int64_t q = 0; q < count; ++q) {
      const auto row = out.begin() + q * (headDim + 1);
      result.insert(result.end(), row, row + headDim);
      CHECK_EQ(row[headDim], -7.0f);  // nothing beyond the head is written
    }
    return result;
  }

  void check(size_t query, const float* found) {
    std::vector<double> scores, expected(static_cast<size_t>(headDim));
    double largest = -INFINITY, magnitude = 0, total = 0;
    for (int64_t token = firsts[query]; token < limits[query]; ++token) {
      double score = 0, size = 0;
      for (int64_t d = 0; d < headDim; ++d) {
        const double product = static_cast<double>(queries[query][static_cast<size_t>(d)]) *
                               static_cast<double>(scale) * static_cast<double>(keyAt(token, d));
        score += product;
        size += std::abs(product);
      }
      scores.push_back(score);
      largest = std::max(largest, score);
      magnitude = std::max(magnitude, size);
    }
    double largestValue = 0;
    for (size_t token = 0; token < scores.size(); ++token) {
      const double weight = std::exp(scores[token] - largest);
      total += weight;
      for (int64_t d = 0; d < headDim; ++d) {
        const auto value = static_cast<double>(valueAt(firsts[query] + static_cast<int64_t>(token), d));
        expected[static_cast<size_t>(d)] += weight * value;
        largestValue = std::max(largestValue, std::abs(value));
      }
    }
    // An error in a score is a relative error of its weight: dots of headDim products, then the other roundings.
    const double scoreError = (static_cast<double>(headDim) / 2 + 5) * 0x1p-24 * magnitude;
    const double bound = largestValue * (2 * scoreError + 2e-6);
    for (int64_t d = 0; d < headDim; ++d) {
      const Note note("d", d);
      CHECK_NEAR(found[d], expected[static_cast<size_t>(d)] / total, bound);
    }
  }

  int64_t headDim, dimPadded, longest = 0, stride = 0;
  std::vector<int64_t> limits, firsts;
  std::vector<int32_t> pages;
  std::vector<float> cache;
  std::vector<std::vector<float>> queries;
  float scale = 1;
};

static void checkTile(const KernelTable& kernels, KernelCase& attention) {
  const auto count = static_cast<int64_t>(attention.limits.size());
  const std::vector<float> together = attention.run(kernels, 0, count);
  for (int64_t q = 0; q < count; ++q) {
    const Note note("query", q, "sees", attention.firsts[static_cast<size_t>(q)], "to",
                    attention.limits[static_cast<size_t>(q)]);
    const float* found = together.data() + q * attention.headDim;
    attention.check(static_cast<size_t>(q), found);
    CHECK_BITS(found, attention.run(kernels, q, 1).data(), attention.headDim);
  }
}

// Queries of a tile that see any ranges of tokens, in heads of any width.
KERNEL_TEST(attention_kernels, ranges) {
  Random random(7);
  for (int round = 0; round < (kReduced ? 60 : 600); ++round) {
    const Note note("round", round);
    std::vector<int64_t> limits;
    for (int64_t q = random.between(1, kQueryTile); q > 0; --q) limits.push_back(random.between(1, 150));
    KernelCase attention(random, random.between(1, round % 8 == 0 ? 260 : 70), limits, 1);
    for (size_t q = 0; q < limits.size() && round % 3 > 0; ++q) attention.firsts[q] = random.below(limits[q]);
    checkTile(kernels, attention);
  }
}

// Sequences of several ranges, as a whole and in parts.
KERNEL_TEST(attention_kernels, parts) {
  Random random(17);
  for (int round = 0; round < (kReduced ? 4 : 30); ++round) {
    const Note note("round", round);
    std::vector<int64_t> limits;
    for (int64_t q = random.between(1, kQueryTile); q > 0; --q)
      limits.push_back(random.chance(0.3) ? random.between(1, 3) * kRangeTokens : random.between(1, 4 * kRangeTokens));
    KernelCase attention(random, random.between(1, 40), limits, 1);
    for (size_t q = 0; q < limits.size() && round % 3 > 0; ++q) attention.firsts[q] = random.below(limits[q]);
    const auto count = static_cast<int64_t>(limits.size());
    checkTile(kernels, attention);
    const std::vector<float> whole = attention.run(kernels, 0, count);
    CHECK_BITS(attention.run(kernels, 0, count, true).data(), whole.data(), count * attention.headDim);
  }
}

// A query must not touch what only its neighbours see: their part of the cache is poisoned, their results do not
// matter.
KERNEL_TEST(attention_kernels, poison_stays_out) {
  Random random(8);
  for (const int64_t limit : {1, 5, 15, 16, 17, 32, 40, 60, 64})
    for (const int64_t first : {0, 1, 7, 16, 31, 38}) {
      if (first >= limit) continue;
      const Note note("sees", first, "to", limit);
      KernelCase attention(random, 24, {limit, 64, std::min<int64_t>(3, limit), 64}, 1);
      attention.firsts = {first, 0, 0, 20};
      const std::vector<float> clean = attention.run(kernels, 0, 1);
      for (int64_t token = 0; token < 64; ++token)
        for (int64_t d = 0; d < 24 && (token < first || token >= limit); ++d) {
          attention.keyAt(token, d) = token % 2 ? kNan : std::numeric_limits<float>::infinity();
          attention.valueAt(token, d) = token % 3 ? kNan : -std::numeric_limits<float>::infinity();
        }
      CHECK_BITS(attention.run(kernels, 0, 4).data(), clean.data(), 24);
      CHECK_BITS(attention.run(kernels, 0, 1).data(), clean.data(), 24);
    }
}

KERNEL_TEST(attention_kernels, extreme_scores) {
  Random random(9);
  // Scores of some +-1e4: the weights are nearly all 0 and one is 1.
  for (const int64_t dim : {1, 16, 64, 77})
    for (const int64_t length : {1, 16, 33, 100}) {
      const Note note("head dim", dim, "length", length);
      KernelCase attention(random, dim, {length, std::max<int64_t>(1, length - 1), 1}, 100);
      const std::vector<float> found = attention.run(kernels, 0, 3);
      for (size_t q = 0; q < 3; ++q) {
        const auto limit = attention.limits[q];
        for (int64_t d = 0; d < dim; ++d) {
          const Note place("query", q, "d", d);
          double low = INFINITY, high = -INFINITY;
          for (int64_t token = 0; token < limit; ++token) {
            low = std::min(low, static_cast<double>(attention.valueAt(token, d)));
            high = std::max(high, static_cast<double>(attention.valueAt(token, d)));
          }
          const auto value = static_cast<double>(found[q * static_cast<size_t>(dim) + static_cast<size_t>(d)]);
          CHECK(std::isfinite(value));
          CHECK(value >= low - 1e-5 && value <= high + 1e-5);
        }
      }
    }
  // One token far above, or far below, all others, on either side of a page's border.
  for (const int64_t token : {0, 15, 16, 17, 39})
    for (const float score : {1e4f, -1e4f}) {
      const Note note("token", token, "score", score);
      KernelCase attention(random, 16, {40}, 1);
      attention.scale = 1;
      for (int64_t d = 0; d < 16; ++d) {
        attention.queries[0][static_cast<size_t>(d)] = d == 0 ? 1.0f : 0.0f;
        attention.keyAt(token, d) = d == 0 ? score : 0;
      }
      const std::vector<float> found = attention.run(kernels, 0, 1);
      attention.check(0, found.data());
      if (score > 0)
        for (int64_t d = 0; d < 16; ++d) CHECK_EQ(found[static_cast<size_t>(d)], attention.valueAt(token, d));
    }
}

}  // namespace shardspeed::test
