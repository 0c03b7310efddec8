#include "ray/core/worker_address.h"

#include <gtest/gtest.h>

#include "ray/core/worker_address_testutil.h"

namespace ray::core {
namespace {

TEST(WorkerAddress, SurvivesTheWire) {
  AddressPtr address = MakeAddress();
  auto parsed = WorkerAddress::Parse(address->serialized);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ((*parsed)->worker_id, address->worker_id);
  EXPECT_EQ((*parsed)->node_id, address->node_id);
  EXPECT_EQ((*parsed)->endpoint, "unix:/nowhere");
  wire::v1::Address proto;
  (*parsed)->ToProto(&proto);
  EXPECT_EQ(proto.SerializeAsString(), address->serialized);
}

TEST(WorkerAddress, RefusesIdsOfAWrongLengthAndGarbage) {
  wire::v1::Address proto;
  MakeAddress()->ToProto(&proto);
  proto.set_worker_id("short");
  EXPECT_FALSE(WorkerAddress::FromProto(proto).ok());
  EXPECT_FALSE(WorkerAddress::Parse("\xff\xff").ok());
  EXPECT_FALSE(WorkerAddress::Parse("").ok());
}

}  // namespace
}  // namespace ray::core
