// Labels of nodes, and the rules by which a strategy chooses nodes by them.
// Threads: free functions, thread-safe.   Errors: none; a rule of an unknown kind suits no node.
#pragma once

#include <map>
#include <string>

#include "ray/wire/v1/scheduling.pb.h"

namespace ray::scheduling {

using Labels = std::map<std::string, std::string>;
using LabelCondition = wire::v1::SchedulingStrategy::LabelCondition;
using LabelConditions = google::protobuf::RepeatedPtrField<LabelCondition>;

// The label that every node has: its id in hex.
inline constexpr char kNodeIdLabel[] = "ray.io/node-id";

bool Matches(const LabelCondition& condition, const Labels& labels);
// Whether every rule holds; so without rules every node will do.
bool MatchesAll(const LabelConditions& conditions, const Labels& labels);

// Which of the strategy's choices the labels suit: 0 its required rules, 1, 2, ... its fallbacks in
// order, -1 none of them.
int LabelChoice(const wire::v1::SchedulingStrategy& strategy, const Labels& labels);

// "zone in [a, b] and disk exists": for users.
std::string Describe(const LabelConditions& conditions);
// "{disk: ssd, zone: a}".
std::string Describe(const Labels& labels);

}  // namespace ray::scheduling
