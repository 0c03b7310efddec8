// One suite for every backend (Redis where redis-server is installed), and what only some promise.
#include "ray/gcs/storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>

#include "absl/strings/str_cat.h"
#include "ray/base/temp_folder_testutil.h"
#include "ray/gcs/redis_storage.h"
#include "ray/gcs/sqlite_storage.h"
#include "ray/net/endpoint.h"

namespace ray::gcs {
namespace {

using base::TempFolder;

constexpr char kRedisServer[] = "/usr/bin/redis-server";

// A server of the test's own, which keeps its data in the folder.
class RedisServer {
 public:
  RedisServer() {
    auto listening = net::Listen("tcp:127.0.0.1:0");
    EXPECT_TRUE(listening.ok());
    port_ = listening->endpoint.substr(listening->endpoint.rfind(':') + 1);
    listening->fd.Reset(-1);
    Start();
  }
  ~RedisServer() { Kill(); }

  std::string Url() const { return UrlOf("test"); }
  std::string UrlOf(const std::string& prefix) const {
    return "redis://127.0.0.1:" + port_ + "/" + prefix;
  }
  // To be taken by a process of another machine.
  RedisStorage::Options ForAnother(absl::Duration lease) const {
    auto options = RedisStorage::ParseUrl("127.0.0.1:" + port_ + "/test");
    options->holder = "elsewhere|boot|namespace|17|1|1";
    options->lease = lease;
    return *std::move(options);
  }

  RedisLink Link() const { return RedisLink({.host = "127.0.0.1", .port = std::stoi(port_)}); }

  void Start() {
    pid_ = fork();
    if (pid_ == 0) {
      const std::string folder = folder_.path();
      execl(kRedisServer, kRedisServer, "--port", port_.c_str(), "--bind", "127.0.0.1", "--dir",
            folder.c_str(), "--appendonly", "yes", "--appendfsync", "always", "--loglevel",
            "warning", "--logfile", (folder_ / "log").c_str(), nullptr);
      _exit(127);
    }
    for (int i = 0; i < 500 && !OpenStorage(UrlOf("probe")).ok(); ++i) usleep(10'000);
  }
  void Kill() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  TempFolder folder_;
  std::string port_;
  pid_t pid_ = 0;
};

std::vector<std::string> Backends() {
  std::vector<std::string> backends = {"memory", "sqlite"};
  if (std::filesystem::exists(kRedisServer)) backends.push_back("redis");
  return backends;
}

class StorageTest : public testing::TestWithParam<std::string> {
 protected:
  StorageTest() {
    std::string name = GetParam();
    if (name == "sqlite") name = "sqlite:" + folder_ / "gcs.db";
    if (name == "redis") name = redis_.emplace().Url();
    auto opened = OpenStorage(name);
    EXPECT_TRUE(opened.ok()) << opened.status();
    storage_ = *std::move(opened);
  }

  std::vector<std::string> Keys(std::string_view table, std::string_view prefix) {
    std::vector<std::string> keys;
    EXPECT_TRUE(storage_
                    ->Scan(table, prefix,
                           [&](std::string_view key, std::string_view) {
                             keys.emplace_back(key);
                             return true;
                           })
                    .ok());
    return keys;
  }

  TempFolder folder_;
  std::optional<RedisServer> redis_;
  std::unique_ptr<Storage> storage_;
};

INSTANTIATE_TEST_SUITE_P(Backends, StorageTest, testing::ValuesIn(Backends()),
                         [](const auto& backend) { return backend.param; });

TEST_P(StorageTest, GetsWhatWasPut) {
  ASSERT_TRUE(storage_->Put("t", "k", "v").ok());
  EXPECT_EQ(*storage_->Get("t", "k"), "v");
  ASSERT_TRUE(storage_->Put("t", "k", "w").ok());
  EXPECT_EQ(*storage_->Get("t", "k"), "w");
}

TEST_P(StorageTest, KeepsTablesApart) {
  ASSERT_TRUE(storage_->Put("a", "k", "1").ok());
  ASSERT_TRUE(storage_->Put("b", "k", "2").ok());
  ASSERT_TRUE(storage_->Delete("a", "k").ok());
  EXPECT_TRUE(absl::IsNotFound(storage_->Get("a", "k").status()));
  EXPECT_EQ(*storage_->Get("b", "k"), "2");
}

TEST_P(StorageTest, SaysNotFoundForAMissingKey) {
  EXPECT_TRUE(absl::IsNotFound(storage_->Get("t", "k").status()));
  EXPECT_TRUE(storage_->Delete("t", "k").ok());
}

TEST_P(StorageTest, KeepsAnyBytes) {
  const std::string key("\0\xff k", 4);
  const std::string value(1 << 20, '\0');
  ASSERT_TRUE(storage_->Put(key, key, value).ok());
  ASSERT_TRUE(storage_->Put("t", "", "").ok());
  EXPECT_EQ(*storage_->Get(key, key), value);
  EXPECT_EQ(*storage_->Get("t", ""), "");
}

TEST_P(StorageTest, ScansAPrefixInByteOrder) {
  for (const char* key : {"b", "ab", "a\xff", "aa", "a"}) {
    ASSERT_TRUE(storage_->Put("t", key, "").ok());
  }
  EXPECT_EQ(Keys("t", "a"), (std::vector<std::string>{"a", "aa", "ab", "a\xff"}));
  EXPECT_EQ(Keys("t", "").size(), 5);
  EXPECT_TRUE(Keys("t", "c").empty());
  EXPECT_TRUE(Keys("u", "").empty());
}

TEST_P(StorageTest, EndsAScanWhenTheVisitorHasEnough) {
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(storage_->Put("t", key, "").ok());
  int seen = 0;
  ASSERT_TRUE(
      storage_->Scan("t", "", [&](std::string_view, std::string_view) { return ++seen < 2; }).ok());
  EXPECT_EQ(seen, 2);
}

TEST_P(StorageTest, AppliesABatchInOrder) {
  ASSERT_TRUE(storage_->Put("t", "gone", "").ok());
  WriteBatch batch;
  batch.Delete("t", "gone");
  batch.Put("t", "k", "1");
  batch.Put("t", "k", "2");
  batch.Put("u", "k", "3");
  ASSERT_TRUE(storage_->Write(batch).ok());
  EXPECT_EQ(Keys("t", ""), std::vector<std::string>{"k"});
  EXPECT_EQ(*storage_->Get("t", "k"), "2");
  EXPECT_EQ(*storage_->Get("u", "k"), "3");
}

TEST_P(StorageTest, ScansTablesOfAnySize) {
  WriteBatch batch;
  for (int i = 0; i < 2000; ++i) batch.Put("t", absl::StrCat(1000 + i), absl::StrCat(i));
  ASSERT_TRUE(storage_->Write(batch).ok());
  EXPECT_EQ(Keys("t", "").size(), 2000);
  EXPECT_EQ(Keys("t", "2").size(), 1000);
  EXPECT_EQ(Keys("t", "1999"), std::vector<std::string>{"1999"});
}

TEST(RedisStorage, OutlivesTheServersRestart) {
  if (Backends().size() == 2) return;
  RedisServer server;
  auto storage = OpenStorage(server.Url());
  ASSERT_TRUE(storage.ok()) << storage.status();
  ASSERT_TRUE((*storage)->Put("t", "k", "v").ok());
  server.Kill();
  EXPECT_TRUE(absl::IsUnavailable((*storage)->Put("t", "k", "w")));
  EXPECT_TRUE(absl::IsUnavailable((*storage)->Get("t", "k").status()));
  EXPECT_TRUE(absl::IsUnavailable(OpenStorage(server.Url()).status()));
  server.Start();
  EXPECT_EQ(*(*storage)->Get("t", "k"), "v");
  EXPECT_TRUE((*storage)->Put("t", "k", "w").ok());
}

TEST(RedisStorage, IsHeldByOneProcess) {
  if (Backends().size() == 2) return;
  RedisServer server;
  auto first = OpenStorage(server.Url(), absl::Milliseconds(300));
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = OpenStorage(server.Url(), absl::Milliseconds(300)).status();
  EXPECT_TRUE(absl::IsUnavailable(second));
  EXPECT_THAT(second.message(), testing::HasSubstr(absl::StrCat("process ", getpid())))
      << "also after longer than the lease: it is renewed";
  first->reset();
  EXPECT_TRUE(OpenStorage(server.Url()).ok()) << "given back at the end";
}

TEST(RedisStorage, WhatIsTakenOverCanBeWrittenNoMore) {
  if (Backends().size() == 2) return;
  RedisServer server;
  auto first = RedisStorage::Open(server.ForAnother(absl::Hours(1)));
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE((*first)->Put("t", "k", "1").ok());
  std::promise<std::string> lost;
  (*first)->OnLost(
      [&lost](const absl::Status& why) { lost.set_value(std::string(why.message())); });
  // As if it had hung for longer than its lease.
  ASSERT_TRUE(server.Link().Run({"DEL", "test:#holder"}).ok());
  auto second = OpenStorage(server.Url());
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE((*second)->Put("t", "k", "2").ok());
  const absl::Status late = (*first)->Put("t", "k", "3");
  EXPECT_TRUE(absl::IsUnavailable(late));
  EXPECT_THAT(late.message(), testing::HasSubstr("taken for dead"));
  EXPECT_THAT(lost.get_future().get(), testing::HasSubstr("taken for dead"));
  EXPECT_EQ(*(*second)->Get("t", "k"), "2") << "REDIS-1";
  first->reset();
  EXPECT_TRUE((*second)->Put("t", "k", "4").ok()) << "its end gives back nothing of others";
}

TEST(RedisStorage, AnIdleHolderHearsThatItWasTakenOver) {
  if (Backends().size() == 2) return;
  RedisServer server;
  auto first = RedisStorage::Open(server.ForAnother(absl::Milliseconds(300)));
  ASSERT_TRUE(first.ok()) << first.status();
  std::promise<void> lost;
  (*first)->OnLost([&lost](const absl::Status&) { lost.set_value(); });
  ASSERT_TRUE(server.Link().Run({"INCR", "test:#epoch"}).ok());
  EXPECT_EQ(lost.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST(RedisStorage, IsTakenAtOnceFromAProcessOfThisMachineThatIsGone) {
  if (Backends().size() == 2) return;
  RedisServer server;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto storage = OpenStorage(server.Url(), absl::Hours(1));
    if (storage.ok() && (*storage)->Put("t", "k", "v").ok()) write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const absl::Time before = absl::Now();
  auto storage = OpenStorage(server.Url(), absl::Hours(1));
  ASSERT_TRUE(storage.ok()) << storage.status();
  EXPECT_LT(absl::Now() - before, absl::Seconds(10));
  EXPECT_EQ(*(*storage)->Get("t", "k"), "v");
}

TEST(RedisStorage, RefusesUrlsThatNameNoServer) {
  for (const char* rest :
       {"", "host", "host:1", "host:1/", ":1/p", "host:x/p", "host:0/p", "host:65536/p"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(RedisStorage::ParseUrl(rest).status())) << rest;
  }
  auto options = RedisStorage::ParseUrl("[::1]:6379/a/b");
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->host, "::1");
  EXPECT_EQ(options->port, 6379);
  EXPECT_EQ(options->prefix, "a/b");
}

TEST(SqliteStorage, KeepsWhatWasWrittenWhenOpenedAgain) {
  TempFolder folder;
  const std::string path = folder / "gcs.db";
  ASSERT_TRUE((*SqliteStorage::Open(path))->Put("t", "k", "v").ok());
  auto again = SqliteStorage::Open(path);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*(*again)->Get("t", "k"), "v");
}

// The child writes until it is killed, and says over a pipe what has been accepted.
TEST(SqliteStorage, LosesNothingAcceptedWhenTheProcessIsKilled) {
  TempFolder folder;
  const std::string path = folder / "gcs.db";
  int accepted_pipe[2];
  ASSERT_EQ(pipe(accepted_pipe), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto storage = SqliteStorage::Open(path);
    for (int i = 0; storage.ok(); ++i) {
      if (!(*storage)->Put("t", std::to_string(i), std::string(100, 'x')).ok()) break;
      if (write(accepted_pipe[1], &i, sizeof i) != sizeof i) break;
    }
    _exit(1);
  }
  close(accepted_pipe[1]);
  constexpr int kEnough = 2000;
  int last = -1;
  while (last < kEnough && read(accepted_pipe[0], &last, sizeof last) == sizeof last) {
  }
  kill(child, SIGKILL);
  while (read(accepted_pipe[0], &last, sizeof last) == sizeof last) {
  }
  close(accepted_pipe[0]);
  int how = 0;
  waitpid(child, &how, 0);
  ASSERT_TRUE(WIFSIGNALED(how));
  ASSERT_GE(last, kEnough);

  auto storage = SqliteStorage::Open(path);
  ASSERT_TRUE(storage.ok()) << storage.status();
  for (int i = 0; i <= last; ++i) ASSERT_TRUE((*storage)->Get("t", std::to_string(i)).ok()) << i;
}

// Folding the log in takes a sync, which waits for the disk.
TEST(SqliteStorage, ServesFirstAndFoldsItsLogInLater) {
  TempFolder folder;
  const std::string path = folder / "gcs.db";
  auto storage = SqliteStorage::Open(path);
  ASSERT_TRUE(storage.ok());
  const std::string megabyte(1 << 20, 'x');
  int written = 0;
  auto write_megabytes = [&](int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE((*storage)->Put("t", std::to_string(++written), megabyte).ok());
    }
  };
  write_megabytes(20);
  EXPECT_LT(std::filesystem::file_size(path), 1u << 20);
  write_megabytes(50);  // more than may be left to the next start
  EXPECT_GT(std::filesystem::file_size(path), 50u << 20);
}

TEST(SqliteStorage, RefusesAFileThatAnotherHolds) {
  TempFolder folder;
  auto first = SqliteStorage::Open(folder / "gcs.db");
  ASSERT_TRUE(first.ok());
  auto second = SqliteStorage::Open(folder / "gcs.db");
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
}

TEST(SqliteStorage, RefusesWhatIsNoDatabase) {
  TempFolder folder;
  std::ofstream(folder / "gcs.db") << std::string(4096, 'x');
  auto opened = SqliteStorage::Open(folder / "gcs.db");
  EXPECT_TRUE(absl::IsInvalidArgument(opened.status())) << opened.status();
  EXPECT_NE(opened.status().message().find("gcs.db"), absl::string_view::npos);
}

TEST(SqliteStorage, RefusesAFolderThatIsNotThere) {
  EXPECT_TRUE(absl::IsUnavailable(SqliteStorage::Open("/nonexistent/gcs.db").status()));
}

TEST(OpenStorage, RefusesAnUnknownBackend) {
  for (const char* name : {"", "redis", "sqlite:", "Memory"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(OpenStorage(name).status())) << name;
  }
}

}  // namespace
}  // namespace ray::gcs
