// A connection to a Redis server, made again when it breaks.
//
// Threads: thread-compatible.   Blocks: a round trip a call, for `timeout` at most, twice if the
// connection has to be made again.
// Errors: kUnavailable when the server does not answer, kUnauthenticated when it wants another
// password (RAY_REDIS_PASSWORD), kResourceExhausted when it has no memory, kInternal for anything
// else it says.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct redisContext;
struct redisReply;

namespace ray::gcs {

class RedisLink {
 public:
  struct Options {
    std::string host;
    int port = 0;
    std::string password;  // "" = none
    absl::Duration timeout = absl::Seconds(5);
  };
  struct FreeReply {
    void operator()(redisReply* reply) const;
  };
  using Reply = std::unique_ptr<redisReply, FreeReply>;
  using Command = std::vector<std::string>;

  explicit RedisLink(Options options) : options_(std::move(options)) {}

  // A command that is cut off in the middle is sent once more: it must be the same when it is done
  // twice.
  absl::StatusOr<Reply> Run(const Command& command);

 private:
  struct Disconnect {
    void operator()(redisContext* context) const;
  };
  absl::Status Connect();
  // One try, on the connection that there is. An error reply is not an error here.
  absl::StatusOr<Reply> Try(const Command& command);
  absl::Status Failure(std::string_view what) const;

  const Options options_;
  std::unique_ptr<redisContext, Disconnect> context_;  // null: connect first
};

}  // namespace ray::gcs
