#include "ray/scheduling/memory_kill_policy.h"

#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace ray::scheduling {
namespace {

// The order in which kinds of work are ended, first things first.
enum class Rank { kRunsAgain, kTaskOnce, kActorOnce };

Rank RankOf(const RunningWork& work) {
  if (work.retriable) return Rank::kRunsAgain;
  return work.is_actor ? Rank::kActorOnce : Rank::kTaskOnce;
}

std::string WhyOfRank(Rank rank, bool is_actor) {
  switch (rank) {
    case Rank::kRunsAgain:
      return is_actor ? "it is an actor that may be restarted" : "it is a task that may run again";
    case Rank::kTaskOnce:
      return "nothing that may run again was left, and it is a task";
    case Rank::kActorOnce:
      return "only actors that may not be restarted were left";
  }
  return "";
}

}  // namespace

std::optional<MemoryVictim> ChooseMemoryVictim(const std::vector<RunningWork>& works,
                                               absl::Time now) {
  // What one owner has of one rank is a group.
  absl::flat_hash_map<std::pair<Rank, std::string>, size_t> groups;
  for (const RunningWork& work : works) ++groups[{RankOf(work), work.owner}];
  auto size_of = [&](const RunningWork& work) { return groups.at({RankOf(work), work.owner}); };
  // Greater is ended sooner; ids, to make the choice the same each time.
  auto claim = [&](const RunningWork& work) {
    return std::make_tuple(-static_cast<int>(RankOf(work)), size_of(work), work.since, work.worker);
  };
  const RunningWork* chosen = nullptr;
  for (const RunningWork& work : works) {
    if (chosen == nullptr || claim(work) > claim(*chosen)) chosen = &work;
  }
  if (chosen == nullptr) return std::nullopt;

  MemoryVictim victim{static_cast<size_t>(chosen - works.data()),
                      WhyOfRank(RankOf(*chosen), chosen->is_actor)};
  if (const size_t size = size_of(*chosen); size > 1) {
    absl::StrAppend(&victim.because, ", its owner has ", size,
                    " of the kind here and no other owner has more");
  } else {
    absl::StrAppend(&victim.because, ", no owner has more than one of the kind here");
  }
  absl::StrAppend(&victim.because, ", and it started last of them, ",
                  absl::FormatDuration(absl::Trunc(now - chosen->since, absl::Milliseconds(100))),
                  " ago");
  return victim;
}

}  // namespace ray::scheduling
