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
  AnsweredRequests answered_{2, &storage_};
  KvManager kv_{{.value_max_bytes = 8}, &storage_, &answered_};
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

TEST_F(KvManagerTest, ARepeatedChangeIsAnsweredAsBefore) {
  wire::v1::KvRequest put;
  put.set_op(wire::v1::KvRequest::PUT);
  put.set_key("k");
  put.set_value("v");
  EXPECT_FALSE(kv_.Handle(put, "put 1").found());
  wire::v1::KvRequest remove;
  remove.set_op(wire::v1::KvRequest::DELETE);
  remove.set_key("k");
  // By the next process, too: the answer was stored with the effect.
  AnsweredRequests answered(2, &storage_);
  ASSERT_TRUE(answered.Load().ok());
  KvManager next({.value_max_bytes = 8}, &storage_, &answered);
  EXPECT_FALSE(next.Handle(put, "put 1").found());
  EXPECT_TRUE(next.Handle(put, "put 2").found());
  EXPECT_EQ(next.Handle(remove, "remove").count(), 1);
  EXPECT_EQ(next.Handle(remove, "remove").count(), 1);
  EXPECT_EQ(next.Handle(remove, "remove again").count(), 0);
}

TEST_F(KvManagerTest, AChangeThatTheStorageRefusedIsMadeWhenItComesAgain) {
  wire::v1::KvRequest put;
  put.set_op(wire::v1::KvRequest::PUT);
  put.set_kv_namespace("n");
  put.set_key("k");
  put.set_value("v");
  storage_.broken = true;
  EXPECT_NE(kv_.Handle(put, "put 1").status().code(), 0);
  storage_.broken = false;
  EXPECT_EQ(kv_.Handle(put, "put 1").status().code(), 0);
  EXPECT_EQ(Run(KvRequest::GET, "k").value(), "v");
}

TEST_F(KvManagerTest, RemembersTheLatestAnswersOnly) {
  wire::v1::KvRequest put;
  put.set_op(wire::v1::KvRequest::PUT);
  put.set_overwrite(true);
  for (int i = 0; i < 5; ++i) kv_.Handle(put, std::string(1, static_cast<char>('a' + i)));
  EXPECT_EQ(answered_.Find("c"), nullptr);
  EXPECT_NE(answered_.Find("d"), nullptr);
  EXPECT_NE(answered_.Find("e"), nullptr);
  int stored = 0;
  ASSERT_TRUE(storage_
                  .Scan("answered", "",
                        [&](std::string_view, std::string_view) {
                          ++stored;
                          return true;
                        })
                  .ok());
  EXPECT_EQ(stored, 2);
  AnsweredRequests fewer(1, &storage_);
  ASSERT_TRUE(fewer.Load().ok());
  EXPECT_EQ(fewer.Find("d"), nullptr);
  EXPECT_NE(fewer.Find("e"), nullptr);
}

}  // namespace
}  // namespace ray::gcs
