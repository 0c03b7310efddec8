// Storage in a Redis server, for a control plane that is to move to another machine: whoever starts
// gcs_server with the same server and prefix goes on from there.
//
// Below the prefix a table is a hash (key -> value) and a sorted set of its keys, which gives scans
// their order. A batch is one script.
//
// One process holds a prefix. Its hold is a key that runs out (`lease`) unless it is renewed, which
// a thread does, and a number, the epoch, that each taking increases. Every write checks the epoch
// in the same script: who was taken for dead and comes back can change nothing (REDIS-1). A prefix
// whose holder was on this machine and is gone is taken at once, another one when the hold has run
// out.
//
// How much a crash of the Redis server itself loses is its own setting (appendonly, appendfsync).
//
// Threads: thread-compatible; a thread of its own renews.
// Blocks: as RedisLink; a scan for each few hundred keys. Open waits for another holder for `lease`
// and a little more, the destructor for a renewal that is under way.
// Errors: as RedisLink; Open: kUnavailable if another process keeps the prefix. Write: kUnavailable
// once another process has taken it; OnLost tells of that, too.
//   REDIS-1  of two processes that take a prefix one after the other, nothing that the first one
//            writes after the second one has taken it is written.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "ray/gcs/redis_link.h"
#include "ray/gcs/storage.h"

namespace ray::gcs {

class RedisStorage final : public Storage {
 public:
  struct Options {
    std::string host;
    int port = 0;
    std::string prefix;    // of all keys
    std::string password;  // "" = none
    absl::Duration timeout = absl::Seconds(5);
    absl::Duration lease = absl::Seconds(5);
    std::string holder = {};  // who takes it, for tests; "": this process
  };

  // "HOST:PORT/PREFIX" of a redis:// URL, with the password of the environment. kInvalidArgument.
  static absl::StatusOr<Options> ParseUrl(std::string_view rest);
  // Connects, and takes the prefix.
  static absl::StatusOr<std::unique_ptr<RedisStorage>> Open(Options options);
  ~RedisStorage() override;  // gives it back

  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override;
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override;
  absl::Status Write(const WriteBatch& batch) override;
  void OnLost(LostCallback callback) override;

 private:
  explicit RedisStorage(Options options);
  absl::Status Take();
  // Writes if it is still held, and holds it for longer.
  absl::Status Run(RedisLink* link, RedisLink::Command changes);
  void KeepRenewing();
  void SayLost(const absl::Status& why);
  absl::Status LostTo(const std::string& holder) const;
  std::string HashOf(std::string_view table) const;
  std::string KeysOf(std::string_view table) const;
  std::string EpochKey() const;
  std::string HolderKey() const;

  const Options options_;
  RedisLink link_;
  std::string epoch_;

  absl::Mutex mutex_;
  absl::CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  LostCallback on_lost_ ABSL_GUARDED_BY(mutex_);
  std::thread renewer_;
};

}  // namespace ray::gcs
