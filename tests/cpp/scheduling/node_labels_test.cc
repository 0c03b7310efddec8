#include "ray/scheduling/node_labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray::scheduling {
namespace {

LabelCondition Rule(LabelCondition::Kind kind, const std::vector<std::string>& values = {}) {
  LabelCondition condition;
  condition.set_key("zone");
  condition.set_kind(kind);
  for (const std::string& value : values) condition.add_values(value);
  return condition;
}

TEST(NodeLabels, MatchesByKind) {
  const Labels a = {{"zone", "a"}};
  const Labels none;
  struct Case {
    LabelCondition rule;
    bool of_a;
    bool of_none;
  };
  for (const Case& expected : {Case{Rule(LabelCondition::IN, {"a", "b"}), true, false},
                               Case{Rule(LabelCondition::IN, {"b"}), false, false},
                               Case{Rule(LabelCondition::NOT_IN, {"a"}), false, true},
                               Case{Rule(LabelCondition::NOT_IN, {"b"}), true, true},
                               Case{Rule(LabelCondition::EXISTS), true, false},
                               Case{Rule(LabelCondition::DOES_NOT_EXIST), false, true},
                               Case{Rule(LabelCondition::KIND_UNSPECIFIED), false, false}}) {
    EXPECT_EQ(Matches(expected.rule, a), expected.of_a) << expected.rule.kind();
    EXPECT_EQ(Matches(expected.rule, none), expected.of_none) << expected.rule.kind();
  }
}

TEST(NodeLabels, ChoosesTheFirstAlternativeThatSuits) {
  wire::v1::SchedulingStrategy strategy;
  EXPECT_EQ(LabelChoice(strategy, {}), 0);
  *strategy.add_required_labels() = Rule(LabelCondition::IN, {"a"});
  *strategy.add_fallback_labels()->add_conditions() = Rule(LabelCondition::IN, {"b"});
  *strategy.add_fallback_labels()->add_conditions() = Rule(LabelCondition::EXISTS);
  EXPECT_EQ(LabelChoice(strategy, {{"zone", "a"}}), 0);
  EXPECT_EQ(LabelChoice(strategy, {{"zone", "b"}}), 1);
  EXPECT_EQ(LabelChoice(strategy, {{"zone", "c"}}), 2);
  EXPECT_EQ(LabelChoice(strategy, {}), -1);
}

TEST(NodeLabels, DescribesRulesForUsers) {
  LabelConditions rules;
  *rules.Add() = Rule(LabelCondition::IN, {"a", "b"});
  *rules.Add() = Rule(LabelCondition::DOES_NOT_EXIST);
  EXPECT_EQ(Describe(rules), "zone in [a, b] and zone does not exist");
  EXPECT_EQ(Describe(Labels{{"disk", "ssd"}, {"zone", "a"}}), "{disk: ssd, zone: a}");
}

}  // namespace
}  // namespace ray::scheduling
