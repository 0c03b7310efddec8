#include "ray/scheduling/node_labels.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace ray::scheduling {
namespace {

std::string DescribeOne(const LabelCondition& condition) {
  const std::string values = absl::StrCat("[", absl::StrJoin(condition.values(), ", "), "]");
  switch (condition.kind()) {
    case LabelCondition::IN:
      return absl::StrCat(condition.key(), " in ", values);
    case LabelCondition::NOT_IN:
      return absl::StrCat(condition.key(), " not in ", values);
    case LabelCondition::EXISTS:
      return absl::StrCat(condition.key(), " exists");
    case LabelCondition::DOES_NOT_EXIST:
      return absl::StrCat(condition.key(), " does not exist");
    default:
      return absl::StrCat("a rule of the unknown kind ", condition.kind(), " for ",
                          condition.key());
  }
}

}  // namespace

bool Matches(const LabelCondition& condition, const Labels& labels) {
  auto label = labels.find(condition.key());
  const bool exists = label != labels.end();
  const bool is_one_of = exists && std::find(condition.values().begin(), condition.values().end(),
                                             label->second) != condition.values().end();
  switch (condition.kind()) {
    case LabelCondition::IN:
      return is_one_of;
    case LabelCondition::NOT_IN:
      return !is_one_of;
    case LabelCondition::EXISTS:
      return exists;
    case LabelCondition::DOES_NOT_EXIST:
      return !exists;
    default:
      return false;
  }
}

bool MatchesAll(const LabelConditions& conditions, const Labels& labels) {
  return std::all_of(conditions.begin(), conditions.end(),
                     [&](const LabelCondition& condition) { return Matches(condition, labels); });
}

int LabelChoice(const wire::v1::SchedulingStrategy& strategy, const Labels& labels) {
  if (MatchesAll(strategy.required_labels(), labels)) return 0;
  for (int i = 0; i < strategy.fallback_labels_size(); ++i) {
    if (MatchesAll(strategy.fallback_labels(i).conditions(), labels)) return i + 1;
  }
  return -1;
}

std::string Describe(const LabelConditions& conditions) {
  std::vector<std::string> all;
  for (const LabelCondition& condition : conditions) all.push_back(DescribeOne(condition));
  return absl::StrJoin(all, " and ");
}

std::string Describe(const Labels& labels) {
  return absl::StrCat("{", absl::StrJoin(labels, ", ", absl::PairFormatter(": ")), "}");
}

}  // namespace ray::scheduling
