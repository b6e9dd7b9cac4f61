#include "runtime/draft_pace.h"

#include <algorithm>
#include <iterator>

namespace shardspeed {

int64_t DraftPace::next(int64_t most) {
  if (pause_ == 0) return std::min(length_, most);
  --pause_;
  return 0;
}

void DraftPace::tell(int64_t drafted, int64_t accepted) {
  constexpr int64_t kLongestPause = 6;  // as a power of two
  if (accepted == drafted) {
    length_ *= 2;
  } else {
    length_ = std::max<int64_t>(2, accepted);
  }
  // One miss behind a hit says little: a draft model that is mostly right has many.
  misses_ = accepted > 0 ? -1 : misses_ + 1;
  if (misses_ > 0) pause_ = (int64_t{1} << std::min(misses_, kLongestPause)) - 1;
}

namespace {

constexpr double kLeastAllowance = 20e6;  // nanoseconds
constexpr double kLostShare = 0.01;       // of the time of all steps
constexpr double kNewest = 0.25;          // weight of the newest time in an average
constexpr int64_t kLongestStretch = 32;   // steps with drafts, before it is measured again what one without takes

}  // namespace

// Between the numbers of sequences that were measured; beyond them a step is to be measured first.
double DraftBudget::plain(int64_t sequences) const {
  const auto above = plain_.lower_bound(sequences);
  if (above == plain_.end()) return -1;
  if (above->first == sequences) return above->second;
  if (above == plain_.begin()) return -1;
  const auto below = std::prev(above);
  const double share = static_cast<double>(sequences - below->first) / static_cast<double>(above->first - below->first);
  return below->second + share * (above->second - below->second);
}

bool DraftBudget::allows(int64_t sequences) {
  const double expected = plain(sequences);
  if (expected < 0 || inARow_ >= kLongestStretch) return false;
  return lost_ <= std::max(expected, kLeastAllowance);
}

void DraftBudget::tell(int64_t sequences, int64_t tokens, bool drafted, int64_t nanoseconds) {
  const auto taken = static_cast<double>(nanoseconds);
  const double expected = plain(sequences);
  if (!drafted || expected < 0) {
    inARow_ = 0;
    const auto [known, isNew] = plain_.try_emplace(sequences, taken);
    // Something else on the machine may have had its processors for a while.
    if (!isNew) known->second += kNewest * (std::min(taken, 2 * known->second) - known->second);
  } else {
    ++inARow_;
    lost_ += taken - expected * static_cast<double>(tokens) / static_cast<double>(sequences);
  }
  if (lost_ > 0) lost_ = std::max(0.0, lost_ - kLostShare * taken);
  // What was saved long ago pays for nothing.
  lost_ = std::max(lost_, -std::max(expected, kLeastAllowance));
}

}  // namespace shardspeed
