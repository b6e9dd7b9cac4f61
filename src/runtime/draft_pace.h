#pragma once

#include <cstdint>
#include <map>

namespace shardspeed {

// How long the drafts of one sequence are. They grow while all of a draft is accepted; behind drafts of which nothing
// was, there are none for longer and longer, so that text which cannot be guessed is slowed down less.
class DraftPace {
 public:
  // Most tokens of the next draft; 0: none now. One call for each step of the sequence.
  int64_t next(int64_t most);
  // A draft was verified.
  void tell(int64_t drafted, int64_t accepted);

 private:
  int64_t length_ = 4;
  int64_t pause_ = 0;   // steps without a draft
  int64_t misses_ = 0;  // drafts one behind another of which nothing was accepted; one less behind a hit
};

// What the drafts of all sequences together cost and save, in time. Each row of a draft takes time where a step is
// bound by arithmetic (many sequences, small models), and a draft model takes more, so there are drafts only while they
// do not lose: they may lose a hundredth of the time, and one step, or 20 ms of short ones, ahead of that.
class DraftBudget {
 public:
  // Whether the next step, of so many sequences, may have drafts.
  bool allows(int64_t sequences);
  // A step has given each sequence its next token, and `tokens` altogether. nanoseconds: the making of drafts included.
  void tell(int64_t sequences, int64_t tokens, bool drafted, int64_t nanoseconds);

 private:
  // What a step of so many sequences takes without drafts; negative where it is not known.
  double plain(int64_t sequences) const;

  std::map<int64_t, double> plain_;  // by sequences, of late
  double lost_ = 0;                  // nanoseconds; below 0 = saved
  int64_t inARow_ = 0;               // steps with drafts
};

}  // namespace shardspeed
