#include "ray/gcs/kv_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ray/gcs/gcs_testutil.h"

namespace ray::gcs {
namespace {

using wire::v1::KvReply;
using wire::v1::KvRequest;

class KvManagerTest : public testing::Test {
 protected:
  KvReply Run(KvRequest::Op op, const std::string& key, const std::string& value = "",
              bool flag = false, const std::string& kv_namespace = "n") {
    KvRequest request;
    request.set_op(op);
    request.set_kv_namespace(kv_namespace);
    request.set_key(key);
    request.set_value(value);
    request.set_overwrite(flag);
    request.set_prefix(flag);
    return kv_.Handle(request);
  }

  FailingStorage storage_;
  KvManager kv_{{.value_max_bytes = 8}, &storage_};
};

TEST_F(KvManagerTest, GetsWhatWasPut) {
  EXPECT_FALSE(Run(KvRequest::GET, "k").found());
  EXPECT_FALSE(Run(KvRequest::PUT, "k", "v").found());
  KvReply reply = Run(KvRequest::GET, "k");
  EXPECT_TRUE(reply.found());
  EXPECT_EQ(reply.value(), "v");
  EXPECT_EQ(reply.status().code(), 0);
}

TEST_F(KvManagerTest, KeepsTheOldValueUnlessToldToOverwrite) {
  Run(KvRequest::PUT, "k", "old");
  EXPECT_TRUE(Run(KvRequest::PUT, "k", "new").found());
  EXPECT_EQ(Run(KvRequest::GET, "k").value(), "old");
  EXPECT_TRUE(Run(KvRequest::PUT, "k", "new", true).found());
  EXPECT_EQ(Run(KvRequest::GET, "k").value(), "new");
}

TEST_F(KvManagerTest, ExistsIsNotFooledByALongerKey) {
  Run(KvRequest::PUT, "key", "v");
  EXPECT_TRUE(Run(KvRequest::EXISTS, "key").found());
  EXPECT_FALSE(Run(KvRequest::EXISTS, "ke").found());
}

TEST_F(KvManagerTest, DeletesOneKeyOrAPrefix) {
  for (const char* key : {"a", "ab", "ac", "b"}) Run(KvRequest::PUT, key, "v");
  EXPECT_EQ(Run(KvRequest::DELETE, "a").count(), 1);
  EXPECT_EQ(Run(KvRequest::DELETE, "a").count(), 0);
  EXPECT_EQ(Run(KvRequest::DELETE, "a", "", true).count(), 2);
  EXPECT_THAT(Run(KvRequest::KEYS, "").keys(), testing::ElementsAre("b"));
}

TEST_F(KvManagerTest, KeepsNamespacesApart) {
  Run(KvRequest::PUT, "k", "v");
  EXPECT_FALSE(Run(KvRequest::GET, "k", "", false, "other").found());
  EXPECT_FALSE(Run(KvRequest::GET, "k", "", false, "").found());
}

TEST_F(KvManagerTest, RefusesAValueOverTheLimitAndAnUnknownOperation) {
  KvReply reply = Run(KvRequest::PUT, "k", "123456789");
  EXPECT_EQ(reply.status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_NE(reply.status().message().find("kv_value_max_bytes"), std::string::npos);
  EXPECT_FALSE(Run(KvRequest::EXISTS, "k").found());
  EXPECT_EQ(Run(KvRequest::OP_UNSPECIFIED, "k").status().code(),
            static_cast<int>(absl::StatusCode::kInvalidArgument));
}

TEST_F(KvManagerTest, SaysWhenTheStorageFails) {
  storage_.broken = true;
  EXPECT_EQ(Run(KvRequest::PUT, "k", "v").status().code(),
            static_cast<int>(absl::StatusCode::kResourceExhausted));
  storage_.broken = false;
  EXPECT_FALSE(Run(KvRequest::EXISTS, "k").found());
}

}  // namespace
}  // namespace ray::gcs
