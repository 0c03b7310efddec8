// Storage in a Redis server, for a control plane that is to move to another machine: whoever starts
// gcs_server with the same server and prefix goes on from there.
//
// Below the prefix a table is a hash (key -> value) and a sorted set of its keys, which gives scans
// their order. A batch is one MULTI/EXEC, sent as one pipeline.
//
// How much a crash of the Redis server itself loses is its own setting (appendonly, appendfsync).
// Nothing keeps two gcs_servers with one prefix apart; whoever starts the second one must know that
// the first is gone.
//
// Threads: thread-compatible.   Blocks: a round trip a call (a scan: one for each few hundred
// keys), for `timeout` at most, twice if the connection has to be made again. Errors: kUnavailable
// when the server does not answer, kUnauthenticated when it wants another password
// (RAY_REDIS_PASSWORD), kResourceExhausted when it has no memory, kInternal for anything else it
// says.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "ray/gcs/storage.h"

struct redisContext;
struct redisReply;

namespace ray::gcs {

class RedisStorage final : public Storage {
 public:
  struct Options {
    std::string host;
    int port = 0;
    std::string prefix;    // of all keys
    std::string password;  // "" = none
    absl::Duration timeout = absl::Seconds(5);
  };

  // "HOST:PORT/PREFIX" of a redis:// URL, with the password of the environment. kInvalidArgument.
  static absl::StatusOr<Options> ParseUrl(std::string_view rest);
  // Connects.
  static absl::StatusOr<std::unique_ptr<RedisStorage>> Open(Options options);

  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override;
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override;
  absl::Status Write(const WriteBatch& batch) override;

 private:
  struct Disconnect {
    void operator()(redisContext* context) const;
  };
  struct FreeReply {
    void operator()(redisReply* reply) const;
  };
  using Reply = std::unique_ptr<redisReply, FreeReply>;
  using Command = std::vector<std::string>;

  explicit RedisStorage(Options options) : options_(std::move(options)) {}
  absl::Status Connect();
  absl::StatusOr<Reply> Run(const Command& command);
  // One reply for each, in order; an error reply is not an error here.
  absl::StatusOr<std::vector<Reply>> RunAll(const std::vector<Command>& commands);
  absl::StatusOr<std::vector<Reply>> TryAll(const std::vector<Command>& commands);
  absl::Status Failure(std::string_view what) const;
  std::string HashOf(std::string_view table) const;
  std::string KeysOf(std::string_view table) const;

  const Options options_;
  std::unique_ptr<redisContext, Disconnect> context_;  // null: connect first
};

}  // namespace ray::gcs
